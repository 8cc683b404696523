"""How the provider misbehaves, when it is told to. Kept in its database, so that all its instances obey."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.payment import tables
from shop_services.storage import Database

_FRESH = 0.2


@dataclass(frozen=True, slots=True)
class Faults:
    """Percentages of calls; see the API for each. None of it is the default."""

    refuse_percent: int = 0
    delay: timedelta = timedelta(0)
    silent_percent: int = 0
    crash_percent: int = 0


class FaultStore:
    """Reads and writes the faults. What it knows may be 0.2 s old."""

    def __init__(self, database: Database, now: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._now = now
        self._known = Faults()
        self._fresh_until = -1.0
        self._reading = asyncio.Lock()

    async def current(self) -> Faults:
        """The faults of now."""
        async with self._reading:
            if self._now() >= self._fresh_until:
                async with self._database.reading() as connection:
                    row = (await connection.execute(sa.select(tables.faults))).one()
                delay = timedelta(microseconds=row.delay_micros)
                self._remember(Faults(row.refuse_percent, delay, row.silent_percent, row.crash_percent))
            return self._known

    async def replace(self, faults: Faults) -> None:
        """Misbehave like this from now on."""
        values = {
            "refuse_percent": faults.refuse_percent,
            "delay_micros": faults.delay // timedelta(microseconds=1),
            "silent_percent": faults.silent_percent,
            "crash_percent": faults.crash_percent,
        }

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(tables.faults.update().values(values))

        await self._database.atomically(work)
        self._remember(faults)

    def _remember(self, faults: Faults) -> None:
        self._known, self._fresh_until = faults, self._now() + _FRESH
