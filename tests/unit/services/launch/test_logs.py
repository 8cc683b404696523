"""Log files of programs: bounded, and readable at their end."""

from __future__ import annotations

import os
from pathlib import Path

from shop_services.launch.logs import brief, open_log, tail, trim


def test_trim_bounds_a_log_that_is_still_written(tmp_path: Path) -> None:
    """A log over its bound moves aside, and the program that has it open goes on at the start of an empty file."""
    log = tmp_path / "logs" / "user-1.log"
    descriptor = open_log(log)
    os.write(descriptor, b"old " * 10)
    assert not trim(log, max_bytes=40)

    os.write(descriptor, b"more")
    assert trim(log, max_bytes=40)
    os.write(descriptor, b"new")
    os.close(descriptor)

    assert log.read_bytes() == b"new"
    assert (tmp_path / "logs" / "user-1.log.1").read_bytes() == b"old " * 10 + b"more"


def test_trim_ignores_a_log_that_does_not_exist(tmp_path: Path) -> None:
    """A program that was never started has no log to trim."""
    assert not trim(tmp_path / "user-1.log")


def test_open_log_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    """The log of a program that is started again keeps what the last run wrote."""
    log = tmp_path / "user-1.log"
    for text in (b"first\n", b"second\n"):
        descriptor = open_log(log)
        os.write(descriptor, text)
        os.close(descriptor)
    assert log.read_text() == "first\nsecond\n"


def test_tail_is_the_end_of_a_log_of_any_size(tmp_path: Path) -> None:
    """Only the last lines are returned, from a log that is far longer than what is read of it."""
    log = tmp_path / "user-1.log"
    assert tail(log) == ""
    log.write_bytes(b"\xff not utf-8\n" + b"".join(b"line %d\n" % n for n in range(50_000)))
    assert tail(log, lines=2) == "line 49998\nline 49999"


def test_a_line_of_a_log_is_told_in_brief() -> None:
    """Its time and event, as far in as it was; what is no such line stays."""
    long = '    {"time": "2026-11-23T08:00:00Z", "level": "warning", "event": "simulated_crash", "service": "payment"}'
    report = f"payment-1 ended\n{long}\n    Traceback\n    [1]\n    {{}}"
    expected = "payment-1 ended\n    2026-11-23T08:00:00Z simulated_crash\n    Traceback\n    [1]\n    {}"
    assert brief(report) == expected
