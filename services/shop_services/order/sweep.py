"""Finds orders that stand still, and moves them on.

A message may be lost for good (a broker restored from an old copy), or be given up after its last attempt. An order
whose next step is overdue gets the message of its state again; one that is not paid for in time is given up. Every
instance sweeps; two that find the same order meet at its row, and one of them leaves it.

Where many messages wait for workers, or for another attempt, an order's is more likely among them than lost: one more
would only make the line longer. Such orders are left alone until the line is short; so are all while the bus is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random

import structlog

from shop_services.messaging.bus import Bus, BusUnavailable
from shop_services.order import storage
from shop_services.order.bounds import Bounds
from shop_services.order.progress import Progress
from shop_services.order.saga import TooLate
from shop_services.runtime.times import Clock
from shop_services.storage import Contended, Database

BATCH = 100
"""Orders moved on in one go; and how many messages a topic may hold before its orders are left alone."""
_LOOK = 10 * BATCH

_log = structlog.get_logger(__name__)


class Sweep:
    """The sweep of one instance. It looks every `interval` seconds, give or take half of it."""

    def __init__(
        self,
        database: Database,
        progress: Progress,
        bus: Bus,
        bounds: Bounds,
        interval: float,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._database = database
        self._progress = progress
        self._bus = bus
        self._bounds = bounds
        self._interval = interval
        self._clock = clock
        self._rng = rng

    async def sweep(self) -> int:
        """Move on what is overdue, the longest first, `BATCH` orders at most; returns how many were to be moved on."""
        now = self._clock()
        async with self._database.reading() as connection:
            overdue = await storage.overdue(connection, now, _LOOK)
        long = await self._long_lines({command.topic for one in overdue for command in one.commands})
        in_line = {
            one.order_id
            for one in overdue
            if any(command.topic in long for command in one.commands) and not self._bounds.exceeded(one, now)
        }
        if in_line:
            due = now + self._bounds.stuck
            await self._database.atomically(lambda connection: storage.leave(connection, in_line, now, due))
        stuck = [one for one in overdue if one.order_id not in in_line][:BATCH]
        for one in stuck:
            with suppress(TooLate, Contended):  # somebody else moves it
                moved = await self._database.atomically(partial(self._progress.nudged, overdue=one))
                if moved is not None:
                    self._progress.tell(moved)
                    _log.info("order_nudged", order=one.order_id, status=moved.order.status, nudges=one.nudges + 1)
        return len(stuck)

    async def _long_lines(self, topics: Collection[str]) -> frozenset[str]:
        try:
            return frozenset([topic for topic in sorted(topics) if await self._bus.held(topic) > BATCH])
        except BusUnavailable:
            return frozenset(topics)

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Inside of the block, sweep from time to time."""
        task = asyncio.create_task(self._sweep_for_ever(), name="order sweep")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._interval * self._rng.uniform(0.5, 1.5))
            try:
                await self.sweep()
            except Exception as error:  # whatever it is, the next look may succeed
                _log.warning("order_sweep_failed", error=type(error).__name__)
