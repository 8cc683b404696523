"""Finds orders that stand still, and moves them on.

A message may be lost for good (a broker restored from an old copy), or be given up after its last attempt. An order
whose next step is overdue gets the message of its state again; one that is not paid for in time is given up. Every
instance sweeps; two that find the same order meet at its row, and one of them leaves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random

import sqlalchemy as sa
import structlog

from shop_services.order import storage
from shop_services.order.progress import Progress
from shop_services.order.saga import TooLate
from shop_services.runtime.errors import DomainError
from shop_services.runtime.times import Clock
from shop_services.storage import Contended, Database

BATCH = 100
"""Orders that are moved on at a time. A backlog looks like orders that stand still: what is sent again meanwhile must
stay little beside what is waiting already."""

_log = structlog.get_logger(__name__)


class Sweep:
    """The sweep of one instance. It looks every `interval` seconds, give or take half of it."""

    def __init__(self, database: Database, progress: Progress, interval: float, clock: Clock, rng: Random) -> None:
        self._database = database
        self._progress = progress
        self._interval = interval
        self._clock = clock
        self._rng = rng

    async def sweep(self) -> int:
        """Move on what is overdue, the longest first, `BATCH` orders at most; returns how many there were."""
        async with self._database.reading() as connection:
            overdue = await storage.overdue(connection, self._clock(), BATCH)
        for one in overdue:
            with suppress(TooLate, Contended):  # somebody else moves it
                moved = await self._database.atomically(partial(self._progress.nudged, overdue=one))
                if moved is not None:
                    self._progress.tell(moved)
                    _log.info("order_nudged", order=one.order_id, status=moved.order.status, nudges=one.nudges + 1)
        return len(overdue)

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
            except (DomainError, sa.exc.SQLAlchemyError) as error:
                _log.warning("order_sweep_failed", error=type(error).__name__)
