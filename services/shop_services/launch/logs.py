"""The log files of programs, which write to them directly: no output is lost when the supervisor is slow or gone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

MAX_BYTES = 8 * 2**20
"""A log may grow to this before its content moves to NAME.log.1, in place of what was there."""

_TAIL_BYTES = 64 * 2**10


def open_log(path: Path) -> int:
    """Open a log for appending, made with its folder where missing, and return the descriptor.

    Every write goes to the end of the file as it is then, so `trim` may empty it meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def trim(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Move the content of a log that exceeds `max_bytes` to NAME.log.1, and return whether it did.

    The program keeps its descriptor, so the file is copied and emptied, not renamed. A line that is written between the
    two is lost, which is the price of a bound that needs nothing from the program.
    """
    if not path.exists() or path.stat().st_size <= max_bytes:
        return False
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True


def size(path: Path) -> int:
    """The bytes that a log has now; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, lines: int = 15, *, after: int = 0) -> str:
    """The last lines of a log, as they are; empty if there is none. `after`: the size from which on they count."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _TAIL_BYTES, after if after <= end else 0))  # it is shorter once it was trimmed
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def brief(report: str) -> str:
    """`report` with each line of a log in it as its event and time; the logs have the rest."""
    return "\n".join(_brief_line(line) for line in report.splitlines())


def _brief_line(line: str) -> str:
    begin = line[: len(line) - len(line.lstrip())]
    try:
        logged = json.loads(line)
        return f"{begin}{logged['time']} {logged['event']}"
    except (ValueError, KeyError, TypeError):  # no line of ours
        return line
