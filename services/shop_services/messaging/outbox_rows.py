"""The statements on the table of an outbox; `outbox.py` describes the table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from google.protobuf.message import DecodeError
from sqlalchemy.ext.asyncio import AsyncConnection

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Message
from shop_services.runtime.times import Clock
from shop_services.storage import Database

CLAIM = timedelta(seconds=5)
"""How long a row belongs to the process that wrote or claimed it. Clocks that differ by more than this make messages be
sent twice; the bus and the inbox see to it that this harms nobody."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message whose row is ours until a time."""

    message: Message
    until: datetime

    @property
    def id(self) -> str:
        """The row's key, which is the envelope's id."""
        return self.message.envelope.id


@dataclass(frozen=True, slots=True)
class Pending:
    """How many messages are still to be sent, and how long the oldest has been waiting."""

    count: int
    age: timedelta


class OutboxRows:
    """The rows of one service's outbox."""

    def __init__(self, database: Database, table: sa.Table, clock: Clock) -> None:
        self.table = table
        self.clock = clock
        self._database = database
        self._insert = table.insert()

    async def insert(self, connection: AsyncConnection, messages: Sequence[Message]) -> None:
        """Write rows, claimed by us, in the transaction of `connection`."""
        now = self.clock()
        rows = [
            {
                "id": message.envelope.id,
                "topic": message.topic,
                "envelope": message.envelope.SerializeToString(),
                "create_time": now,
                "claimed_until": now + CLAIM,
            }
            for message in messages
        ]
        await connection.execute(self._insert, rows)

    async def waiting(self, topics: Collection[str]) -> bool:
        """Whether there is a row of `topics` that nobody claims. It only reads: cheap enough to ask each second."""
        query = sa.select(sa.literal(1)).where(*self._unclaimed(topics, self.clock())).limit(1)
        async with self._database.reading() as connection:
            return (await connection.execute(query)).first() is not None

    async def claim(self, topics: Collection[str], limit: int) -> list[Claimed]:
        """Claim `limit` rows of `topics` at most that nobody claims, oldest first; pass over what others are claiming.

        A row that cannot be read is logged and left out.
        """
        table, now = self.table, self.clock()
        until = now + CLAIM
        query = sa.select(table.c.id, table.c.topic, table.c.envelope).where(*self._unclaimed(topics, now))
        query = query.order_by(table.c.claimed_until).limit(limit).with_for_update(skip_locked=True)

        async def work(connection: AsyncConnection) -> Sequence[sa.Row[str, str, bytes]]:
            rows = (await connection.execute(query)).all()
            if rows:
                ids = [row.id for row in rows]
                await connection.execute(table.update().where(table.c.id.in_(ids)).values(claimed_until=until))
            return rows

        claimed = []
        for row in await self._database.atomically(work):
            try:
                message = Message(row.topic, Envelope.FromString(row.envelope))
            except DecodeError:
                _log.error("outbox_row_unreadable", table=table.name, id=row.id)
            else:
                claimed.append(Claimed(message, until))
        return claimed

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete rows."""
        statement = self.table.delete().where(self.table.c.id.in_(ids))
        await self._change(statement)

    async def release(self, ids: Sequence[str]) -> None:
        """Give up our claims to rows, so that others may send them now."""
        statement = self.table.update().where(self.table.c.id.in_(ids)).values(claimed_until=self.clock())
        await self._change(statement)

    async def pending(self) -> Pending:
        """Count all rows. It reads all of them."""
        query = sa.select(sa.func.count(), sa.func.min(self.table.c.create_time)).select_from(self.table)
        async with self._database.reading() as connection:
            count, oldest = (await connection.execute(query)).one()
        return Pending(count, self.clock() - oldest if count else timedelta())

    async def _change(self, statement: sa.Executable) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.atomically(work)

    def _unclaimed(self, topics: Collection[str], now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
        return self.table.c.claimed_until <= now, self.table.c.topic.in_(topics)
