"""Processes as /proc shows them: who started whom, and who still lives."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from shop_services.launch.ports import holder


def descendants(pid: int) -> set[int]:
    """All living processes that `pid`, or one of those, has started."""
    parents = {int(entry.name): _parent(entry) for entry in Path("/proc").glob("[0-9]*")}
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def alive(pids: Iterable[int], *, seconds: float = 0) -> set[int]:
    """Those that still live, at once if none does, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while left := {pid for pid in pids if _parent(Path(f"/proc/{pid}")) is not None}:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    return left


def listener(address: str) -> int:
    """The pid of the process that listens on `host:port`.

    It is looked for several times: the kernel's table skips lines while other connections come and go.
    """
    for _ in range(20):
        if match := re.search(r"\(pid (\d+)\)$", holder(int(address.rpartition(":")[2]))):
            return int(match[1])
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on {address}")


@contextmanager
def frozen(*pids: int) -> Generator[None, None, None]:
    """Nothing of these processes runs in the block (SIGSTOP); their connections stay open. They may be killed in it."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _parent(entry: Path) -> int | None:
    """The parent of a process; None if it has ended, though nobody may have asked for its exit code yet."""
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state in "ZX" else int(parent)
