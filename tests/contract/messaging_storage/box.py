"""A bus and a database that fail on command, and what tests of an outbox do again and again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Message
from shop_services.messaging.inbox import inbox_table
from shop_services.messaging.memory import MemoryBus
from shop_services.messaging.outbox import Outbox, outbox_table
from shop_services.runtime.errors import Unavailable
from shop_services.storage import Database, make_metadata

metadata = make_metadata()
outbox_rows = outbox_table(metadata, "test")
inbox_rows = inbox_table(metadata, "test")


class FlakyBus(MemoryBus):
    """Counts what it acknowledged. `fault` may give an error for a message; while `gate` is closed, nothing is said."""

    def __init__(self) -> None:
        super().__init__(name="test")
        self.kept: Counter[str] = Counter()
        self.asked = 0
        self.now = 0
        self.most = 0
        self.fault: Callable[[Message], Exception | None] = lambda _: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, message: Message) -> None:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            if (error := self.fault(message)) is not None:
                raise error
            await super().publish(message)
            self.kept[message.envelope.id] += 1
        finally:
            self.now -= 1


class FlakyDatabase(Database):
    """Is away on command: `away` for everything, `read_only` for changes; `mute` loses the answer to a commit."""

    away = read_only = mute = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        if self.away:
            raise Unavailable("away")
        async with super().reading() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        if self.away or self.read_only:
            raise Unavailable("away")
        async with super().transaction() as connection:
            yield connection
        if self.mute:
            raise Unavailable("no answer")


def messages(count: int, topic: str = "orders", prefix: str = "m") -> list[Message]:
    """So many, with the ids m0, m1, …"""
    return [Message(topic, Envelope(id=f"{prefix}{n}", type="order.reserve", order_id="o")) for n in range(count)]


def ids(written: Sequence[Message]) -> set[str]:
    """Their ids."""
    return {message.envelope.id for message in written}


async def write(database: Database, outbox: Outbox, written: Sequence[Message]) -> None:
    """Commit messages, and no more: what a process does that dies at that moment."""
    async with database.transaction() as connection:
        await outbox.add(connection, written)


async def left(database: Database) -> set[str]:
    """The ids of the rows that are still there."""
    async with database.reading() as connection:
        return set((await connection.execute(sa.select(outbox_rows.c.id))).scalars())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, thirty seconds at most."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # buses and databases tell of no change
            await asyncio.sleep(0.005)


async def until_empty(database: Database) -> None:
    """Wait until all rows are deleted, thirty seconds at most."""
    async with asyncio.timeout(30):
        while await left(database):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
