"""Messages that were handled, so that none is handled twice.

A handler claims the message's id in the transaction of its effect. Both are committed, or neither is; a second delivery
meets the id, also while the first is still at work, and does nothing. Ids are kept for a week: far longer than a
message can wait anywhere.

A service's migration creates the table as `inbox_table` describes it::

    op.create_table(
        "order_inbox",
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_order_inbox"),
    )
    op.create_index("ix_order_inbox_create_time", "order_inbox", ["create_time"])
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.times import Clock
from shop_services.storage import Database, UtcDateTime
from shop_services.storage.sweeping import SWEEP_BATCH, sweeping

KEPT = timedelta(days=7)
"""How long an id is kept at least."""


def inbox_table(metadata: sa.MetaData, service: str) -> sa.Table:
    """The table of the messages that `service` has handled; its migration creates the same."""
    return sa.Table(
        f"{service}_inbox",
        metadata,
        sa.Column("message_id", sa.String(64), primary_key=True),
        sa.Column("create_time", UtcDateTime, nullable=False, index=True),
    )


class AlreadyHandled(Exception):
    """The message was handled before: there is nothing left to do but to acknowledge it."""


class Inbox:
    """The messages that one service has handled."""

    def __init__(self, database: Database, table: sa.Table, clock: Clock) -> None:
        self._database = database
        self._table = table
        self._clock = clock

    async def claim(self, connection: AsyncConnection, message_id: str) -> None:
        """Keep the message's id in the transaction of `connection`, as the first of what the transaction does.

        If another transaction is handling the same message, this waits for its end.

        Raises:
            AlreadyHandled: the message was handled. Let it leave the transaction, which is then rolled back.
            ValueError: the id is empty: messages without one could not be told apart.
        """
        if not message_id:
            raise ValueError("a message without an id")
        row = {"message_id": message_id, "create_time": self._clock()}
        try:
            await connection.execute(self._table.insert(), row)
        except sa.exc.IntegrityError:
            raise AlreadyHandled(message_id) from None

    async def sweep(self) -> int:
        """Delete ids that have been kept for long enough, a thousand at most, and return how many."""
        table = self._table
        old = sa.select(table.c.message_id).where(table.c.create_time < self._clock() - KEPT).limit(SWEEP_BATCH)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(table.delete().where(table.c.message_id.in_(old)))).rowcount

        return await self._database.atomically(work)

    def sweeping(self) -> AbstractAsyncContextManager[None]:
        """Sweep every ten minutes inside of the block."""
        return sweeping(self._table.name, self.sweep)
