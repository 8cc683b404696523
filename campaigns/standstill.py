"""When a process stood still though nobody told it to: a busy machine does not let all of them run all the time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from campaigns.traffic import Call
from grpc_registry.waiting import stop

Span = tuple[float, float]
"""From when until when, in seconds of the event loop's clock, which is the same in all processes of a machine."""

_TICK = 0.01
_LEAST = 0.03
"""Seconds. Who did not run for less is just slow."""


@contextlib.asynccontextmanager
async def noted(note: Callable[[Span], None]) -> AsyncIterator[None]:
    """Call `note` with each time in the block for which this process did not run, though its loop had something to do.

    Work that keeps the loop from its turn is no standstill.
    """
    loop = asyncio.get_running_loop()

    async def tick() -> None:
        before, worked_before = loop.time(), time.process_time()
        while True:
            await asyncio.sleep(_TICK)
            now, worked = loop.time(), time.process_time()
            if now - before - (worked - worked_before) > _LEAST:
                note((before, now))
            before, worked_before = now, worked

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        await stop(ticking)


def undisturbed(calls: Iterable[Call], standstills: Sequence[Span]) -> list[Call]:
    """Those during which nobody stood still: of the others it cannot be said how long they would have taken."""
    return [call for call in calls if not any(call.due <= end and begin <= call.ended for begin, end in standstills)]
