"""Mutations that are done once, however often they are asked for.

A caller that does not know whether its request arrived sends it again with the same `request_id`. The reply to the
first is kept in a table of the service, written in the same transaction as its effect, and given again. Replies are
kept for a day. A failed request leaves no reply: repeated, it is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.times import Clock
from shop_services.storage.columns import UtcDateTime
from shop_services.storage.database import ATTEMPTS, Database
from shop_services.storage.failures import Contended
from shop_services.storage.sweeping import SWEEP_BATCH, sweeping

KEPT = timedelta(days=1)
"""How long a reply is kept at least."""
_AT_A_TIME = 100  # rows that one statement looks for or writes

D = TypeVar("D")
Reply = TypeVar("Reply", bound=Message)
"""A type of protobuf replies."""
Work = Callable[[AsyncConnection], Awaitable[D]]


def replies_table(metadata: sa.MetaData, service: str) -> sa.Table:
    """The table of the kept replies of `service`; its migration creates the same."""
    return sa.Table(
        f"{service}_replies",
        metadata,
        sa.Column("request_type", sa.String(128), primary_key=True),
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("reply", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcDateTime, nullable=False, index=True),
    )


@dataclass(frozen=True, slots=True)
class KeptReply:
    """The reply to a request, as it is kept: a row of the table, or on its way there."""

    request_type: str
    request_id: str
    fingerprint: bytes
    reply: bytes
    create_time: datetime

    @property
    def key(self) -> tuple[str, str]:
        """What no two kept replies have in common."""
        return self.request_type, self.request_id


class Mutation(Generic[D, Reply]):
    """One request that changes something. A use case asks for the `earlier` reply; if there is none, it `commit`s.

    `D` is what the use case makes, `Reply` the reply that it becomes.
    """

    def __init__(
        self,
        replies: Replies,
        request: Message,
        reply_type: type[Reply],
        present: Callable[[D], Reply],
        secrets: Collection[str],
    ) -> None:
        self._replies = replies
        self._request_type: str = request.DESCRIPTOR.full_name
        self._request_id: str = request.request_id  # type: ignore[attr-defined]  # mutating requests have one
        self._fingerprint = _fingerprint(request, secrets)
        self._reply_type = reply_type
        self._present = present

    async def earlier(self) -> Reply | None:
        """The reply that this request got before, if it has a `request_id` and was done.

        Raises:
            InvalidArgument: the id belongs to another request; `request_id` is named.
        """
        if not self._request_id:
            return None
        table = self._replies.table
        query = sa.select(table.c.fingerprint, table.c.reply).where(
            table.c.request_type == self._request_type, table.c.request_id == self._request_id
        )
        async with self._replies.database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else self._given(row.fingerprint, row.reply)

    def among(self, kept: Iterable[KeptReply]) -> Reply | None:
        """The reply that this request got before, if it is one of `kept`. Raises as `earlier` does."""
        for one in kept:
            if one.key == (self._request_type, self._request_id):
                return self._given(one.fingerprint, one.reply)
        return None

    def replied(self, made: D) -> tuple[Reply, KeptReply | None]:
        """The reply for `made`, and how to keep it by other means than `commit`; None for a request without an id."""
        reply = self._present(made)
        if not self._request_id:
            return reply, None
        now = self._replies.clock()
        return reply, KeptReply(self._request_type, self._request_id, self._fingerprint, reply.SerializeToString(), now)

    async def commit(self, work: Work[D], committed: Callable[[D], None] | None = None) -> Reply:
        """Run `work` in a transaction and keep its reply there; if the request was done meanwhile, give that reply.

        `work` runs again from its beginning after a conflict, as in `Database.atomically`. What it raises is raised.
        `committed` is called with what it made once that is committed: never for an attempt that was rolled back.
        """
        for _ in range(ATTEMPTS):
            try:
                made, reply = await self._replies.database.atomically(lambda connection: self._once(connection, work))
            except _ClaimedError:
                if (earlier := await self.earlier()) is not None:
                    return earlier
            else:
                if committed is not None:
                    committed(made)
                return reply
        raise Contended("the same request is being done again and again")

    def _given(self, fingerprint: bytes, reply: bytes) -> Reply:
        if fingerprint != self._fingerprint:
            raise InvalidArgument.of("request_id", "was used before, for another request")
        return self._reply_type.FromString(reply)

    async def _once(self, connection: AsyncConnection, work: Work[D]) -> tuple[D, Reply]:
        if not self._request_id:
            made = await work(connection)
            return made, self._present(made)
        # Claimed before the work: a repetition waits here for the first to end, and does not meet its effects.
        table = self._replies.table
        key = {"request_type": self._request_type, "request_id": self._request_id}
        claim = {**key, "fingerprint": self._fingerprint, "reply": b"", "create_time": self._replies.clock()}
        try:
            await connection.execute(table.insert().values(claim))
        except sa.exc.IntegrityError:
            raise _ClaimedError from None
        made = await work(connection)
        reply = self._present(made)
        kept = table.update().where(*(table.c[name] == value for name, value in key.items()))
        await connection.execute(kept.values(reply=reply.SerializeToString()))
        return made, reply


class Replies:
    """The kept replies of one service."""

    def __init__(self, database: Database, table: sa.Table, clock: Clock) -> None:
        self.database = database
        self.table = table
        self.clock = clock

    def mutation(
        self, request: Message, reply_type: type[Reply], present: Callable[[D], Reply], *, secrets: Collection[str] = ()
    ) -> Mutation[D, Reply]:
        """A mutation for `request`, whose reply `present` makes. It is repeatable if its `request_id` is not empty.

        A kept reply is bound to the request it answered by a hash of all fields but `secrets`: a hash of a password,
        made as fast as this one, would give it away.
        """
        return Mutation(self, request, reply_type, present, secrets)

    async def keep(self, connection: AsyncConnection, kept: Iterable[KeptReply]) -> None:
        """Write replies that are on their way to the table; those that are there already stay as they are."""
        table = self.table
        given = {one.key: one for one in kept}
        key = sa.tuple_(table.c.request_type, table.c.request_id)
        for start in range(0, len(given), _AT_A_TIME):
            keys = list(given)[start : start + _AT_A_TIME]
            query = sa.select(table.c.request_type, table.c.request_id).where(key.in_(keys))
            there = {tuple(row) for row in await connection.execute(query)}
            if rows := [asdict(given[name]) for name in keys if name not in there]:
                await connection.execute(table.insert(), rows)

    async def sweep(self) -> int:
        """Delete replies that have been kept for long enough, a thousand at most, and return how many."""
        table = self.table
        old = sa.select(table.c.request_type, table.c.request_id).where(table.c.create_time < self.clock() - KEPT)
        key = sa.tuple_(table.c.request_type, table.c.request_id)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(table.delete().where(key.in_(old.limit(SWEEP_BATCH))))).rowcount

        return await self.database.atomically(work)

    def sweeping(self) -> AbstractAsyncContextManager[None]:
        """Sweep every ten minutes inside of the block."""
        return sweeping(self.table.name, self.sweep)


class _ClaimedError(Exception):
    """The request's id is taken: by an earlier one, or by one that ran at the same time and has ended."""


def _fingerprint(request: Message, secrets: Collection[str]) -> bytes:
    told = type(request)()
    told.CopyFrom(request)
    for name in secrets:
        told.ClearField(name)
    return hashlib.sha256(told.SerializeToString(deterministic=True)).digest()
