"""The directory of e-mails."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shop_services.notification.mailbox import Mailbox, listed, read
from tests.unit.services.notification.orders import NOON


def test_ids_sort_by_time_also_while_the_clock_stands_still_or_goes_back(tmp_path: Path) -> None:
    """The newest e-mail is always the first in the list."""
    times = iter([NOON, NOON, NOON, NOON - timedelta(hours=1), NOON + timedelta(seconds=1)])
    mailbox = Mailbox(tmp_path, lambda: next(times))
    added = [mailbox.add(b"\r\n") for _ in range(4)]
    assert [path.stem for path in listed(tmp_path)] == added[::-1]
    assert added[-1] == "20261122T120001.000000"


def test_two_writers_one_after_the_other_overwrite_nothing(tmp_path: Path) -> None:
    """A mail server that starts again within the same microsecond keeps what was there."""
    for _ in range(2):
        Mailbox(tmp_path, lambda: NOON).add(b"\r\n")
    assert len(listed(tmp_path)) == 2


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """The oldest e-mails make room, also those that were there before."""
    first = Mailbox(tmp_path, lambda: NOON)
    for number in range(4):
        first.add(f"Subject: {number}\r\n\r\n".encode())
    again = Mailbox(tmp_path, lambda: NOON + timedelta(days=1), kept=3)
    assert [read(path)["Subject"] for path in listed(tmp_path)] == ["3", "2", "1"]
    again.add(b"Subject: 4\r\n\r\n")
    assert [read(path)["Subject"] for path in listed(tmp_path)] == ["4", "3", "2"]


def test_what_a_killed_writer_left_is_no_mail(tmp_path: Path) -> None:
    """Half an e-mail is neither listed nor left behind, and other files are left alone."""
    (tmp_path / ".half.eml").write_bytes(b"Subj")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert listed(tmp_path) == []
    Mailbox(tmp_path, lambda: NOON, kept=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_mail_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error, and no half e-mail stays."""
    mailbox = Mailbox(tmp_path, lambda: NOON)

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        mailbox.add(b"\r\n")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_an_empty_mailbox(tmp_path: Path) -> None:
    """Nothing was sent yet."""
    assert listed(tmp_path / "mail") == []
