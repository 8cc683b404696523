"""A compacted log in the memory of one process, for tests and for a shop in one process. It dies with the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Literal
from weakref import WeakValueDictionary

from shop_services.messaging.bus import BusFull, BusUnavailable
from shop_services.messaging.compacted import (
    ABSENCE,
    BATCH,
    LOOK_EVERY,
    MARKER_AGE,
    News,
    Record,
    StartOver,
    Superseded,
    check_key,
    check_put,
)

Interference = Callable[[Literal["ask", "answer"], str], Awaitable[None]]
"""Called with the key before anything is asked of the log, and again before the answer is given ("" for followers).

It may wait, and raise `BusUnavailable`: at "ask" nothing was done, at "answer" it was done and nobody knows.
"""


async def _undisturbed(_when: str, _key: str) -> None:
    """The network as it should be."""


class MemoryRecords:
    """What the logs of one name share: their server. It holds at most `capacity` records; `clock` is in seconds."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, capacity: int = 100_000, marker_age: float = MARKER_AGE
    ) -> None:
        self.clock = clock
        self.marker_age = marker_age
        self.life = 0
        """Counts how often everything was lost."""
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, at every change."""
        self._capacity = capacity
        self._records: dict[str, Record] = {}  # in the order of their sequences
        self._markers: dict[str, float] = {}  # when they vanish; in that order
        self._sequence = 0

    def lose(self) -> None:
        """Lose everything, as a server whose disk was replaced."""
        self._records.clear()
        self._markers.clear()
        self._sequence = 0
        self.life += 1
        self._stir()

    def write(self, key: str, value: bytes, *, after: int, cleared: bool) -> int:
        latest = self.latest(key)
        if (latest.sequence if latest else 0) != after:
            raise Superseded(key, latest)
        if latest is None and len(self._records) >= self._capacity:
            raise BusFull("the log is full")
        self._sequence += 1
        self._records.pop(key, None)
        self._markers.pop(key, None)
        self._records[key] = Record(key, value, self._sequence, cleared)
        if cleared:
            self._markers[key] = self.clock() + self.marker_age
        self._stir()
        return self._sequence

    def latest(self, key: str) -> Record | None:
        self._expire()
        return self._records.get(key)

    def since(self, sequence: int) -> tuple[Record, ...]:
        """The first records after a sequence."""
        self._expire()
        newest_first = []
        for record in reversed(self._records.values()):
            if record.sequence <= sequence:
                break
            newest_first.append(record)
        return tuple(newest_first[: -BATCH - 1 : -1])

    def _expire(self) -> None:
        now = self.clock()
        while self._markers and self._markers[key := next(iter(self._markers))] <= now:
            del self._markers[key], self._records[key]

    def _stir(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryLog:
    """A `CompactedLog` in memory. Logs with one `records` are as processes with one server; without, it is alone.

    Its connection is what `interfere` makes of it, which may be replaced at any time.
    """

    def __init__(self, records: MemoryRecords | None = None) -> None:
        self.records = records or MemoryRecords()
        self.interfere: Interference = _undisturbed
        self._closed = False

    async def put(self, key: str, value: bytes, *, after: int) -> int:
        return await self._write(key, value, after=after, cleared=False)

    async def clear(self, key: str, *, after: int, note: bytes = b"") -> int:
        return await self._write(key, note, after=after, cleared=True)

    async def latest(self, key: str) -> Record | None:
        check_key(key)
        await self._ask(key)
        latest = self.records.latest(key)
        await self.interfere("answer", key)
        return latest

    async def is_empty(self) -> bool:
        await self._ask("")
        empty = not self.records.since(0)
        await self.interfere("answer", "")
        return empty

    def follow(self) -> MemoryFollower:
        return MemoryFollower(self)

    async def close(self) -> None:
        self._closed = True

    async def _write(self, key: str, value: bytes, *, after: int, cleared: bool) -> int:
        check_put(key, value, after)
        await self._ask(key)
        sequence = self.records.write(key, value, after=after, cleared=cleared)
        await self.interfere("answer", key)
        return sequence

    async def _ask(self, key: str) -> None:
        if self._closed:
            raise BusUnavailable("the log is closed")
        await self.interfere("ask", key)


class MemoryFollower:
    """A `Follower` in memory. Its clock is that of the records."""

    def __init__(self, log: MemoryLog) -> None:
        self._log, self._records = log, log.records
        self._life = log.records.life
        self._read = 0
        self._began = log.records.clock()
        self._as_of = -inf

    async def read(self) -> News:
        while True:
            if not self._records.since(self._read):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._records.changed.wait()
            with suppress(BusUnavailable):
                return await self._look()
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self) -> News:
        await self._log.interfere("ask", "")
        now, life, found = self._records.clock(), self._records.life, self._records.since(self._read)
        await self._log.interfere("answer", "")
        if life != self._life:
            self._start_over(life, now)
            raise StartOver("the log was wiped", lost=True)
        if now - max(self._as_of, self._began) > ABSENCE * self._records.marker_age:
            self._start_over(life, now)
            raise StartOver("it was away for too long", lost=False)
        if found:
            self._read = found[-1].sequence
        if len(found) < BATCH:
            self._as_of = now
        return News(found, self._as_of)

    def _start_over(self, life: int, now: float) -> None:
        self._life, self._read, self._began, self._as_of = life, 0, now, -inf


_named: WeakValueDictionary[str, MemoryRecords] = WeakValueDictionary()


def shared_records(name: str) -> MemoryRecords:
    """The records of that name in this process. They live as long as a log of them does."""
    records = _named.get(name)
    if records is None:
        records = _named[name] = MemoryRecords()
    return records
