"""When a process stood still though nobody told it to: a busy machine does not let all of them run all the time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from campaigns.traffic import Call

Span = tuple[float, float]
"""From when until when, in seconds of `time.monotonic`, the event loop's clock: one for all processes of a machine."""

_TICK = 0.01
_LEAST = 0.02
"""Seconds. Who did not run for less is just slow."""
_RUSH = 0.05
"""Seconds after a standstill in which all is done at once that was due meanwhile."""


@contextlib.contextmanager
def noted(note: Callable[[Span], object]) -> Iterator[None]:
    """Call `note`, in a thread, with each time in the block for which this process did not run, though it would have.

    Work is no standstill, and a loop that is blocked is none either: the thread goes on beside both.
    """
    over = threading.Event()

    def tick() -> None:
        before, worked_before = time.monotonic(), time.process_time()
        last = False
        while not last:
            last = over.wait(_TICK)
            now, worked = time.monotonic(), time.process_time()
            if now - before - _TICK - (worked - worked_before) > _LEAST:
                note((before, now))
            before, worked_before = now, worked

    thread = threading.Thread(target=tick, name="note standstills", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def without(standstills: Iterable[Span], calls: Iterable[Call]) -> list[Call]:
    """The calls as if nobody had stood still: each ended sooner by what it has of these times, and of the rush after.

    So a call that took three seconds, of which somebody stood still for one, is one that took two.
    """
    spans = _merged((begin, end + _RUSH) for begin, end in standstills)
    return [replace(call, ended=call.ended - _shared(spans, call.due, call.ended)) for call in calls]


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same times, none of them twice, though several processes stood still."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _shared(spans: Sequence[Span], begin: float, end: float) -> float:
    return sum(max(0.0, min(last, end) - max(first, begin)) for first, last in spans)
