"""`shop dlq`: what was given up, and what to do with it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog
from google.protobuf.json_format import MessageToDict

from shop.events.v1.events_pb2 import DeadLetter
from shop_services.cli.tables import print_table
from shop_services.messaging.bus import TOPICS
from shop_services.runtime.errors import DomainError
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.tls import OPERATOR, client_tls

if TYPE_CHECKING:
    from shop_services.messaging.dead_letters import DeadLetters

_DESCRIPTION = """
Messages whose handlers failed in every attempt, or said that they never can succeed, with the reason. They stay until
somebody retries or drops them. NATS_URL says where they lie.
"""

Action = Callable[["DeadLetters", argparse.Namespace], Awaitable[None]]


def add_commands(subparsers: Any) -> None:
    """Add `dlq` with its commands to those of `shop`."""
    dlq = subparsers.add_parser("dlq", help="messages that were given up", description=_DESCRIPTION)
    actions = dlq.add_subparsers(dest="action", required=True, metavar="ACTION")

    ls = actions.add_parser("ls", help="list them, oldest first")
    ls.add_argument("topic", nargs="?", choices=TOPICS, metavar="TOPIC", help=f"only of {', '.join(TOPICS)}")
    _output(ls)
    ls.set_defaults(run=_command(_ls))

    show = actions.add_parser("show", help="show one, with every attempt at it")
    show.add_argument("id", metavar="ID", help="as `ls` shows it")
    _output(show)
    show.set_defaults(run=_command(_show))

    retry = actions.add_parser("retry", help="give messages to their handlers again")
    _selection(retry)
    retry.set_defaults(run=_command(_retry))

    drop = actions.add_parser("drop", help="remove messages for good")
    _selection(drop)
    drop.set_defaults(run=_command(_drop))


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="for people, or for programs"
    )


def _selection(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", nargs="*", default=[], metavar="ID", help="as `ls` shows them")
    which.add_argument("--all", action="store_true", help="all that are there now")
    parser.add_argument("--topic", choices=TOPICS, metavar="TOPIC", help="with --all: only of this topic")


def _command(action: Action) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        if getattr(options, "ids", None) and options.topic:
            print(f"shop dlq {options.action}: --topic goes with --all", file=sys.stderr)
            return 2
        settings = Settings.from_environment()
        if settings.nats_url.startswith("memory:"):
            raise SettingError("NATS_URL", "must name a NATS server: what is in memory dies with its process")
        # What fails is said below, in one line.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        try:
            asyncio.run(_act(action, options, settings))
        except DomainError as error:
            print(f"shop dlq {options.action}: {error.message}", file=sys.stderr)
            return 1
        return 0

    return run


async def _act(action: Action, options: argparse.Namespace, settings: Settings) -> None:
    from shop_services.messaging.dead_letters import open_dead_letters  # with NATS's client: slow for `shop --help`

    tls = client_tls(settings, OPERATOR, "nats")
    async with open_dead_letters(settings.nats_url, replicas=settings.stream_replicas, tls=tls) as letters:
        await action(letters, options)


async def _ls(letters: DeadLetters, options: argparse.Namespace) -> None:
    found = await letters.all(options.topic)
    if options.output == "json":
        print(json.dumps([_as_dict(letter) for letter in found], indent=2))
    elif found:
        print_table(("ID", "TOPIC", "TYPE", "ORDER", "TIME", "ATTEMPTS", "REASON"), [_row(each) for each in found])
    else:
        print("no dead letters")


async def _show(letters: DeadLetters, options: argparse.Namespace) -> None:
    letter = await letters.show(options.id)
    described = _as_dict(letter)
    if options.output == "json":
        print(json.dumps(described, indent=2))
        return
    attempts = described.pop("history", [])
    for name, value in described.items():
        print(f"{name + ':':10}{json.dumps(value) if isinstance(value, dict) else value}")
    print("history:")
    rows = [(str(each["attempt"]), each["time"], each.get("worker", ""), each["reason"]) for each in attempts]
    print_table(("  ATTEMPT", "TIME", "WORKER", "REASON"), [(f"  {row[0]}", *row[1:]) for row in rows])


async def _retry(letters: DeadLetters, options: argparse.Namespace) -> None:
    await _each(options, letters.retry, letters.retry_all, "to be handled again")


async def _drop(letters: DeadLetters, options: argparse.Namespace) -> None:
    await _each(options, letters.drop, letters.drop_all, "dropped")


async def _each(
    options: argparse.Namespace,
    one: Callable[[str], Awaitable[None]],
    everything: Callable[[str | None], Awaitable[int]],
    done: str,
) -> None:
    if options.all:
        print(f"{await everything(options.topic)} {done}")
        return
    for letter_id in options.ids:
        await one(letter_id)
        print(f"{letter_id} {done}")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    message = letter.envelope
    attempts = letter.history[-1].attempt if letter.history else 0
    time = f"{letter.time.ToDatetime():%Y-%m-%d %H:%M:%S}"
    reason = " ".join(letter.reason.split())
    return letter.id, letter.topic, message.type or "-", message.order_id or "-", time, str(attempts), reason


def _as_dict(letter: DeadLetter) -> dict[str, Any]:
    try:
        return MessageToDict(letter, preserving_proto_field_name=True)
    except TypeError:  # a body of a type that this program does not know
        letter.envelope.body.Clear()
        return MessageToDict(letter, preserving_proto_field_name=True)
