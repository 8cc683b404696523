"""Messages that are sent if, and only if, the transaction that wrote them is committed.

They are rows of a table until the bus has them. A row is born claimed by the process that writes it, which sends it
from memory right after the commit. If that process dies, or loses sight of the row, the claim ends after seconds and
any process's relay takes it. Messages may be sent twice, and in another order; none is lost.

A service's migration creates the table as `outbox_table` describes it::

    op.create_table(
        "order_outbox",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("claimed_until", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order_outbox"),
    )
    op.create_index("ix_order_outbox_claimed_until_topic", "order_outbox", ["claimed_until", "topic"])
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.messaging.bus import TOPICS, Bus, Message
from shop_services.messaging.outbox_rows import CLAIM, OutboxRows, Pending
from shop_services.messaging.relay import Relay
from shop_services.runtime.times import Clock
from shop_services.storage import Database, UtcDateTime

__all__ = ["CLAIM", "Outbox", "Pending", "outbox_table"]


def outbox_table(metadata: sa.MetaData, service: str) -> sa.Table:
    """The table of the messages that `service` has yet to send; its migration creates the same."""
    return sa.Table(
        f"{service}_outbox",
        metadata,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("topic", sa.String(32), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.Column("claimed_until", UtcDateTime, nullable=False),
        sa.Index(None, "claimed_until", "topic"),
    )


class Outbox:
    """The messages that one service has yet to send. Something is sent only inside of the block of `relaying`.

    ::

        async with database.transaction() as connection:
            ...  # the effect
            await outbox.add(connection, messages)
        outbox.committed(messages)
    """

    def __init__(
        self, database: Database, table: sa.Table, bus: Bus, clock: Clock, *, rng: Random | None = None
    ) -> None:
        self._rows = OutboxRows(database, table, clock)
        self._bus = bus
        self._rng = rng or Random()
        self._relay: Relay | None = None

    def __repr__(self) -> str:
        return f"<Outbox {self._rows.table.name}: {self._relay or 'not relaying'}>"

    async def add(self, connection: AsyncConnection, messages: Sequence[Message]) -> None:
        """Write messages in the transaction of `connection`; after its commit, pass them to `committed`.

        Raises:
            ValueError: a message has no id, or goes to a topic that is none of `TOPICS`: it could never be sent.
        """
        for message in messages:
            if not message.envelope.id:
                raise ValueError("a message without an id")
            if message.topic not in TOPICS:
                raise ValueError(f"there is no topic {message.topic!r}; topics are {', '.join(TOPICS)}")
        if messages:
            await self._rows.insert(connection, messages)

    def committed(self, messages: Sequence[Message]) -> None:
        """Send these messages, which are committed, now. Never waits, never raises.

        Whatever is not told here, or is too much at once, is sent when its claim has ended.
        """
        if self._relay is not None:
            self._relay.offer(messages)

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Send messages inside of the block: those of `committed` at once, those left behind by others within seconds.

        Leaving sends what is in memory if that takes no more than two seconds, and leaves the rest to other processes.
        """
        if self._relay is not None:
            raise RuntimeError("this outbox is relaying already")
        self._relay = Relay(self._rows, self._bus, self._rng)
        try:
            async with self._relay.running():
                yield
        finally:
            self._relay = None

    async def pending(self) -> Pending:
        """How many messages of the service, of whatever process, are still to be sent, and how old the oldest is.

        Raises:
            Unavailable: the database is away.
        """
        return await self._rows.pending()
