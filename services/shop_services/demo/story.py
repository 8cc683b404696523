"""How the journey is told: chapters, what was done in each, how long it took and what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WIDTH = 46


class Failed(Exception):
    """The shop did not do what it promises; the message says what was expected and what came instead."""


def check(holds: bool, otherwise: str) -> None:
    """Raises `Failed` with `otherwise` unless `holds`."""
    if not holds:
        raise Failed(otherwise)


class Story:
    """Prints a journey by `say`, a line at a time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._chapters = 0
        self._began = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a numbered chapter."""
        self._chapters += 1
        self._say(f"\n{self._chapters:>2}. {title}")

    def did(self, what: str, outcome: str, seconds: float) -> None:
        """Tell of one thing that was done, how long it took, and its outcome."""
        self._say(f"    {_short(what):<{_WIDTH}} {seconds * 1000:>6.0f} ms  {_short(outcome)}")

    def note(self, text: str) -> None:
        """Tell of something that nobody did just now."""
        self._say(f"    {text}")

    def end(self, failure: str = "") -> None:
        """Tell how it ended: well, unless there was a `failure`."""
        took = f"{self._chapters} chapters in {time.monotonic() - self._began:.1f} s"
        self._say(f"\nThe journey failed: {failure}" if failure else f"\nAll of it worked: {took}.")


def _short(text: str) -> str:
    """Ids of 32 hex digits as their first six: enough to tell them apart."""
    return re.sub(r"\b([0-9a-f]{6})[0-9a-f]{26}\b", r"\1…", text)


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Gives a function that returns the seconds since the block began."""
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began
