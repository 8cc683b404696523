"""`shop mail`: the e-mails that the mail server for development has kept."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from shop_services.cli.data import add_data_flag, settings_of
from shop_services.launch.errors import LaunchError
from shop_services.notification.mailbox import listed, mailbox_of, read

_HEADERS = ("From", "To", "Date", "Subject", "Message-ID")
_ROW = "{:>5}  {:<22}  {:<32}  {}"

# What a terminal would obey, or turn around: an e-mail may hold anything.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `shop mail ls` and `shop mail show`. Each sets `run`, which takes the options and returns the exit code.

    `run` raises `LaunchError` if there is no such e-mail, `SettingError` for a wrong variable, and `OSError`.
    """
    mail = subparsers.add_parser("mail", help="read the e-mails that were sent", description=__doc__)
    commands = mail.add_subparsers(dest="mail_command", required=True, metavar="COMMAND")

    ls = commands.add_parser("ls", help="list them, newest first")
    ls.add_argument("--to", metavar="ADDRESS", help="only those to this address")
    ls.add_argument("-o", dest="output", choices=("table", "json"), default="table", help="how to print them (table)")
    ls.set_defaults(run=_ls)

    show = commands.add_parser("show", help="show one as text")
    show.add_argument("mail", metavar="N|ID", help="its number in `shop mail ls` (1 is the newest), or its id")
    show.set_defaults(run=_show)

    add_data_flag(ls, show)


def _ls(options: argparse.Namespace) -> int:
    directory = _mailbox(options)
    wanted = "" if options.to is None else options.to.casefold()
    found = [told for told in _told(directory) if not wanted or wanted in (one.casefold() for one in told["to"])]
    if options.output == "json":
        _print(json.dumps(found, indent=2))
    elif not found:
        _print(f"no e-mails{f' to {options.to}' if wanted else ''} in {directory}")
    else:
        rows = [_ROW.format("N", "ID", "TO", "SUBJECT")]
        rows += [_ROW.format(told["number"], told["id"], ", ".join(told["to"]), told["subject"]) for told in found]
        _print("\n".join(rows))
    return 0


def _show(options: argparse.Namespace) -> int:
    directory = _mailbox(options)
    mails = listed(directory)
    chosen: str = options.mail
    number = int(chosen) if chosen.isascii() and chosen.isdigit() else 0
    path = mails[number - 1] if 1 <= number <= len(mails) else directory / f"{chosen}.eml"
    if path not in mails:
        raise LaunchError(f"there is no e-mail {chosen!r} among the {len(mails)} in {directory}: see `shop mail ls`")
    message = read(path)
    headers = [f"{name}: {message[name]}" for name in _HEADERS if message[name] is not None]
    _print("\n".join([*headers, "", _text(message)]))
    return 0


def _mailbox(options: argparse.Namespace) -> Path:
    return mailbox_of(settings_of(options).data)


def _told(directory: Path) -> Iterator[dict[str, Any]]:
    """What `ls` tells of each e-mail, newest first. One that was removed meanwhile is left out."""
    for number, path in enumerate(listed(directory), start=1):
        with suppress(FileNotFoundError):
            message = read(path, headers_only=True)
            yield {
                "number": number,
                "id": path.stem,
                "from": str(message["From"] or ""),
                "to": [str(one) for one in message.get_all("Delivered-To") or message.get_all("To") or ()],
                "date": str(message["Date"] or ""),
                "subject": str(message["Subject"] or ""),
                "message_id": str(message["Message-ID"] or ""),
            }


def _text(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    if part is None:
        return "(no text)"
    try:
        return str(part.get_content()).rstrip()
    except LookupError:  # a character set that Python does not know
        return str(part.get_payload()).rstrip()


def _print(text: str) -> None:
    try:
        print(_CONTROLS.sub("�", text.replace("\r\n", "\n")), flush=True)
    except BrokenPipeError:  # `shop mail ls | head`: nor may the interpreter try again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
