"""How long something takes, on a machine that may let this process stand still for seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc_registry.waiting import stop

_TICK = 0.02
_STANDSTILL = 0.2  # between two ticks: then not this process is slow, unless it worked all the time


class Elapsed:
    """Seconds since it was made, less those in which the process stood still without working.

    A loop that something blocks without using the CPU (`time.sleep`, the join of a thread) looks just like that, and is
    taken off too: where what is measured could do so, `wall` needs a bound as well.
    """

    def __init__(self) -> None:
        self._counted = 0.0
        self._last = self._began = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        now = time.monotonic(), time.process_time()
        passed, worked = now[0] - self._last[0], now[1] - self._last[1]
        self._counted += passed if passed < _STANDSTILL else min(passed, worked + _TICK)
        self._last = now
        return self._counted

    @property
    def wall(self) -> float:
        """All seconds since it was made."""
        return time.monotonic() - self._began[0]


@asynccontextmanager
async def measured() -> AsyncIterator[Elapsed]:
    """Measures from here on. To be read within the block, whose loop it watches."""
    elapsed = Elapsed()

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK)
            _ = elapsed.seconds

    ticking = asyncio.create_task(tick())
    try:
        yield elapsed
    finally:
        await stop(ticking)
