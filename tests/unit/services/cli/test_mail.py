"""`shop mail`, over a directory of e-mails."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from shop_services.cli.mail import add_commands
from shop_services.launch.errors import LaunchError
from shop_services.notification.domain import Outcome
from shop_services.notification.letters import write
from shop_services.notification.mailbox import Mailbox, mailbox_of
from tests.unit.services.notification.orders import NOON, SENDER, ending, mail

IDS = ["20261122T120003.000000", "20261122T120002.000000", "20261122T120001.000000"]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="shop")
    add_commands(parser.add_subparsers(dest="command", required=True))
    options = parser.parse_args(["mail", *arguments])
    return int(options.run(options))


def keep(data: Path, *contents: bytes) -> None:
    times = iter(NOON + timedelta(seconds=second) for second in range(len(contents) + 1))
    mailbox = Mailbox(mailbox_of(data), lambda: next(times))
    for content in contents:
        mailbox.add(content)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SHOP_DATA with three e-mails: two to Ann and one to Bob, about a failure, a cancellation and a success."""
    contents = []
    for outcome, name in ((Outcome.FAILED, "ann"), (Outcome.CANCELLED, "Bob"), (Outcome.FULFILLED, "ann")):
        about = ending(order_id=outcome.lower(), outcome=outcome)
        address = f"{name}@example.com"
        head = f"Return-Path: <{SENDER}>\r\nDelivered-To: {address}\r\n".encode()
        contents.append(head + write(mail(about, address=address, name="Zoë"), about, SENDER).as_bytes())
    keep(tmp_path, *contents)
    monkeypatch.setenv("SHOP_DATA", str(tmp_path))
    return tmp_path


def test_ls_lists_the_newest_first(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each e-mail is a line with its number, its id, to whom it went and its subject."""
    assert run("ls") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["N", "ID", "TO", "SUBJECT"]
    assert [row.split()[:3] for row in rows] == [
        ["1", IDS[0], "ann@example.com"],
        ["2", IDS[1], "Bob@example.com"],
        ["3", IDS[2], "ann@example.com"],
    ]
    assert rows[0].endswith("Receipt for your order fulfilled")


def test_ls_to_an_address_keeps_the_numbers(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left out still counts, so that `show N` means the same e-mail; case does not matter."""
    assert run("ls", "--to", "bob@EXAMPLE.com") == 0
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()] == ["N", "2"]


def test_ls_in_json_is_for_programs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o json` prints an array with an object for each e-mail, and an empty one if there is none."""
    assert run("ls", "-o", "json", "--to", "Bob@example.com") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "number": 2,
            "id": IDS[1],
            "from": f"The shop <{SENDER}>",
            "to": ["Bob@example.com"],
            "date": "Sun, 22 Nov 2026 12:00:00 +0000",
            "subject": "Your order cancelled was cancelled",
            "message_id": "<order-cancelled@shop.example>",
        }
    ]
    assert run("ls", "-o", "json", "--to", "nobody@example.com") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("chosen", ["1", IDS[0]])
def test_show_prints_the_headers_and_the_text(data: Path, chosen: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By number or by id, an e-mail is shown readably."""
    assert run("show", chosen) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"From: The shop <{SENDER}>\nTo: ann@example.com\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n")
    assert "\nMessage-ID: <order-fulfilled@shop.example>\n\nHello Zoë,\n" in shown
    assert "\n  2 x Pen: 5.00 EUR\n" in shown
    assert "<html" not in shown


@pytest.mark.parametrize("chosen", ["0", "4", "nonsense", "../secret", "²"])
def test_show_of_what_is_not_there_says_so(data: Path, chosen: str) -> None:
    """An unknown number or id is an error that names it, and no other file is read."""
    (data / "secret.eml").write_text("Subject: secret\n\n")
    with pytest.raises(LaunchError, match=r"there is no e-mail .* among the 3 in"):
        run("show", chosen)


def test_an_empty_mailbox_is_said_kindly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No e-mails, or no directory at all, is no failure."""
    assert run("ls", "--data", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"no e-mails in {tmp_path / 'mail'}\n"
    assert run("ls", "--data", str(tmp_path), "--to", "ann@example.com") == 0
    assert capsys.readouterr().out == f"no e-mails to ann@example.com in {tmp_path / 'mail'}\n"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"Subject: \x1b[31mred\r\n\r\n\x1b]0;title\x07\r\n", "�]0;title�"),
        (b"Subject: a\r\nContent-Type: text/plain; charset=klingon\r\n\r\nQapla'\r\n", "Qapla'"),
        (b"Subject: a\r\nContent-Type: text/html\r\n\r\n<p>only\r\n", "<p>only"),
        (b"Subject: a\r\nContent-Type: image/png\r\n\r\n\r\n", "(no text)"),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_strange_mails_are_shown_as_far_as_they_can_be(
    tmp_path: Path, content: bytes, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a program sends to the mail server, nothing of it reaches the terminal as a command."""
    keep(tmp_path, content)
    assert run("ls", "--data", str(tmp_path)) == 0
    assert run("show", "1", "--data", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert shown in printed
    assert "\x1b" not in printed
    assert "\x07" not in printed


def test_a_reader_that_leaves_is_no_error(data: Path) -> None:
    """`shop mail ls | head -0` ends in silence."""
    script = "import sys; from tests.unit.services.cli.test_mail import run; sys.stdin.readline(); sys.exit(run('ls'))"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, errors = child.communicate(b"\n", timeout=30)
    assert (child.returncode, errors) == (0, b"")
