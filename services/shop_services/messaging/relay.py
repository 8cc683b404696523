"""Carries messages from an outbox to the bus, and deletes what the bus has acknowledged.

Two streams meet here: rows that this process has just committed, which come through memory, and rows that nobody
claims, which a sweep of the table finds. What cannot be sent is forgotten when its claim ends, for the table keeps it:
memory holds a few thousand messages at most, however long the bus is away. No failure of bus or database ends a relay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import islice
from random import Random

import structlog

from shop_services.messaging.bus import TOPICS, Bus, Message
from shop_services.messaging.lane import BACKOFF, PROBES, Lane
from shop_services.messaging.outbox_rows import CLAIM, Claimed, OutboxRows
from shop_services.runtime.errors import DomainError, Unavailable

CONCURRENCY = 64
"""How many messages are being published at a time."""
BATCH = 256
"""How many rows a sweep claims at a time, and how many are deleted at a time."""
UNDELETED = 4096
"""With so many sent messages that could not be deleted yet, sending waits."""
POLL = 1.0
"""Seconds, give or take a quarter, between two looks for rows that nobody claims, while there are none."""
GRACE = 2.0
"""Seconds that a stop spends on sending what is in memory, and as many again on the table."""
LATE = timedelta(minutes=1)
"""Messages that are older than this are warned about, once a minute."""

_LINGER = 0.1  # seconds in which rows to delete come together: a transaction for many, where each costs a sync

_log = structlog.get_logger(__name__)


class Relay:
    """The relay of one process. It works inside of the block of `running`, which is entered once."""

    def __init__(self, rows: OutboxRows, bus: Bus, rng: Random) -> None:
        self._rows = rows
        self._bus = bus
        self._rng = rng
        self._lanes = {topic: Lane(topic, rng) for topic in TOPICS}
        self._slots = CONCURRENCY
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._sent: dict[str, None] = {}  # ids, in the order of their deletion
        self._some_sent = asyncio.Event()
        self._hungry = asyncio.Event()

    def __repr__(self) -> str:
        queued = sum(map(len, self._lanes.values()))
        return f"{queued} queued, {len(self._sending)} being sent, {len(self._sent)} to be deleted"

    def offer(self, messages: Sequence[Message]) -> None:
        """Send these, whose rows are committed and ours, as soon as possible. What is too much is left to the sweep."""
        now = self._rows.clock()
        for message in messages:
            self._lanes[message.topic].offer(Claimed(message, now + CLAIM), now)
        self._start()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send, delete and sweep inside of the block."""
        name = self._rows.table.name
        sweeper = asyncio.create_task(self._sweep_for_ever(), name=f"sweep {name}")
        deleter = asyncio.create_task(self._delete_until_stopped(), name=f"delete {name}")
        try:
            yield
        finally:
            try:
                sweeper.cancel()
                await self._finish_sending()
                await asyncio.wait([sweeper, deleter], timeout=GRACE)
            finally:
                deleter.cancel()
                await asyncio.gather(sweeper, deleter, return_exceptions=True)

    # Sending: state changes in one place at a time, without waiting

    def _start(self) -> None:
        while len(self._sending) < self._slots and len(self._sent) < UNDELETED and (row := self._next()) is not None:
            self._lanes[row.message.topic].sending += 1
            task = asyncio.create_task(self._bus.publish(row.message), name=f"publish {row.id}")
            task.add_done_callback(partial(self._ended, row, time.monotonic()))
            self._sending[row.id] = task
        if any(lane.busy for lane in self._lanes.values()):
            self._hungry.clear()
        else:
            self._hungry.set()

    def _next(self) -> Claimed | None:
        now = self._rows.clock()
        while heads := [(row, lane) for lane in self._lanes.values() if (row := lane.head(now)) is not None]:
            row, lane = min(heads, key=lambda head: head[0].until)
            lane.pop()
            if row.id not in self._sending and row.id not in self._sent:  # or its claim had ended, and we swept it
                return row
        return None

    def _ended(self, row: Claimed, began: float, task: asyncio.Task[None]) -> None:
        lane = self._lanes[row.message.topic]
        lane.sending -= 1
        del self._sending[row.id]
        if task.cancelled():
            lane.put_first(row)
        elif (error := task.exception()) is None:
            lane.worked(began)
            self._sent[row.id] = None
            self._some_sent.set()
        elif isinstance(error, Unavailable):
            lane.failed(began, error)
            lane.put_first(row)
        else:  # not the bus, but this message: the others go on, and it is tried again when its claim has ended
            type_ = row.message.envelope.type
            _log.error("message_not_published", id=row.id, type=type_, topic=lane.topic, exc_info=error)
        self._start()

    async def _finish_sending(self) -> None:
        """Send what is in memory if that goes quickly. After this nothing is sent any more."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    while self._sending:
                        await asyncio.wait(self._sending.values())
        finally:
            self._slots = 0
            self._some_sent.set()
            for task in self._sending.values():
                task.cancel()
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=GRACE)

    # The table

    async def _delete_until_stopped(self) -> None:
        outage = _Outage(self._rows.table.name, self._rng)
        pause = _LINGER
        while self._slots or self._sending or self._sent:
            await self._some_sent.wait()
            await asyncio.sleep(pause)
            ids = list(islice(self._sent, BATCH))
            try:
                if ids:
                    await self._rows.delete(ids)
            except Exception as error:
                pause = outage.failed(error)
                continue
            outage.ended()
            pause = _LINGER
            for key in ids:
                del self._sent[key]
            if self._slots and not self._sent:
                self._some_sent.clear()
            self._start()  # it may have waited for this
        await self._release()

    async def _release(self) -> None:
        now = self._rows.clock()
        left = [row.id for lane in self._lanes.values() for row in lane.clear() if row.until > now]
        try:
            for start in range(0, len(left), BATCH):
                await self._rows.release(left[start : start + BATCH])
        except Exception as error:  # the claims end by themselves
            _log.warning("claims_not_released", table=self._rows.table.name, error=type(error).__name__)

    async def _sweep_for_ever(self) -> None:
        outage = _Outage(self._rows.table.name, self._rng)
        looked_for_late = time.monotonic()
        while True:
            self._start()  # a pause may have ended
            await self._hungry.wait()
            try:
                more = await self._sweep()
                if time.monotonic() - looked_for_late > LATE.total_seconds():
                    looked_for_late = time.monotonic()
                    await self._warn_of_late()
            except Exception as error:
                await asyncio.sleep(outage.failed(error))
                continue
            outage.ended()
            if not more:
                pauses = [pause for lane in self._lanes.values() if (pause := lane.pause()) > 0]
                await asyncio.sleep(min([POLL * self._rng.uniform(0.75, 1.25), *pauses]))

    async def _sweep(self) -> bool:
        """Claim some rows that nobody claims. Returns whether there may be more."""
        lanes = [lane for lane in self._lanes.values() if lane.pause() <= 0]
        topics = [lane.topic for lane in lanes]
        if not topics or not await self._rows.waiting(topics):
            return False
        limit = BATCH if all(lane.proven for lane in lanes) else PROBES
        claimed = await self._rows.claim(topics, limit)
        for row in claimed:
            self._lanes[row.message.topic].put_first(row)
        return len(claimed) == limit

    async def _warn_of_late(self) -> None:
        pending = await self._rows.pending()
        if pending.age > LATE:
            age = int(pending.age.total_seconds())
            _log.warning("outbox_late", table=self._rows.table.name, pending=pending.count, oldest_seconds=age)


class _Outage:
    """Failures of the database, one after the other: they are logged once, and waited for longer each time."""

    def __init__(self, table: str, rng: Random) -> None:
        self._table = table
        self._rng = rng
        self._failures = 0

    def failed(self, error: Exception) -> float:
        """Note a failure, and return how many seconds to wait."""
        if not self._failures:
            defect = None if isinstance(error, DomainError) else error
            _log.warning("relay_database_failed", table=self._table, error=type(error).__name__, exc_info=defect)
        self._failures += 1
        return BACKOFF.delay(self._failures, self._rng)

    def ended(self) -> None:
        """Note that it works."""
        if self._failures:
            _log.info("relay_database_back", table=self._table)
        self._failures = 0
