"""How orders move: each step of the saga in one transaction with the messages that it causes, then told to all.

Two who move one order meet at its version: the later reads it again, and asks the saga again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Bus, Message
from shop_services.messaging.inbox import AlreadyHandled, Inbox
from shop_services.messaging.outbox import Outbox
from shop_services.order import storage
from shop_services.order.bounds import Bounds
from shop_services.order.domain import Order
from shop_services.order.messages import messages
from shop_services.order.saga import DUE, Command, Event, Step, TooLate
from shop_services.runtime.ids import NewId
from shop_services.runtime.times import Clock
from shop_services.storage import Database

CHANGED = "orders"
"""The channel of the bus on which the ids of changed orders are announced."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Moved:
    """An order after a step, and the messages that were written with it."""

    order: Order
    messages: Sequence[Message]


class Progress:
    """The one place that writes steps of orders. What takes a `connection` is part of the caller's transaction."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        inbox: Inbox,
        bus: Bus,
        bounds: Bounds,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._inbox = inbox
        self._bus = bus
        self._bounds = bounds
        self._clock = clock
        self._new_id = new_id

    async def record(self, connection: AsyncConnection, order: Order, request_id: str) -> Moved:
        """Write a new order. Raises `storage.RequestIdTakenError`."""
        now = self._clock()
        await storage.insert(connection, order, request_id, self._bounds.due(order, 0, now))
        return await self._caused(connection, order, [DUE[order.status]], now)

    async def happened(self, connection: AsyncConnection, order: Order, event: Event, reason: str = "") -> Moved:
        """Write the step that `event` makes of `order`.

        Raises:
            TooLate: the saga has no such step.
            Contended: the order is no longer as it was read.
        """
        now = self._clock()
        after, step = order.after(event, reason, now)
        return await self._step(connection, order, after, step, now)

    async def cancelled(self, connection: AsyncConnection, order: Order, reason: str) -> Moved:
        """The same for a user who calls the order off. Raises `FailedPrecondition` and `Contended`."""
        now = self._clock()
        after, step = order.cancelled(reason, now)
        return await self._step(connection, order, after, step, now)

    async def nudged(self, connection: AsyncConnection, overdue: storage.Overdue) -> Moved | None:
        """Give an order that stands still its message again, or give it up. None: others have seen to it."""
        now = self._clock()
        order = await storage.get(connection, overdue.order_id)
        if self._bounds.exceeded(overdue, now):
            return await self.happened(connection, order, Event.TIMED_OUT, "timed out")
        if not await storage.postpone(connection, overdue, self._bounds.due(order, overdue.nudges + 1, now)):
            return None
        return await self._caused(connection, order, overdue.commands, now)

    async def handled(self, envelope: Envelope, order: Order, event: Event, reason: str) -> None:
        """Write the step that handling a message has led to, once for each message. Late ones are of no effect.

        `order` is as the handler read it. If it has changed since, it is read again, and the saga decides again.
        """
        known: Order | None = order

        async def work(connection: AsyncConnection) -> Moved:
            nonlocal known
            before, known = known, None
            await self._inbox.claim(connection, envelope.id)
            if before is None:
                before = await storage.get(connection, envelope.order_id)
            return await self.happened(connection, before, event, reason)

        try:
            moved = await self._database.atomically(work)
        except (AlreadyHandled, TooLate) as without:
            _log.info("without_effect", order=envelope.order_id, type=envelope.type, why=str(without))
            return
        self.tell(moved)

    async def settled(self, envelope: Envelope, command: Command) -> None:
        """Write that an order no longer owes what `command` has done."""

        async def work(connection: AsyncConnection) -> None:
            await self._inbox.claim(connection, envelope.id)
            await storage.settle(connection, envelope.order_id, command)

        try:
            await self._database.atomically(work)
        except AlreadyHandled:
            _log.info("without_effect", order=envelope.order_id, type=envelope.type, why="handled before")

    def tell(self, moved: Moved) -> None:
        """To be called after the commit: send the messages now, and wake all who watch the order."""
        self._outbox.committed(moved.messages)
        self._bus.announce(CHANGED, moved.order.id)

    async def _step(self, connection: AsyncConnection, before: Order, after: Order, step: Step, now: datetime) -> Moved:
        open_ = step.owes or not after.status.final
        due = self._bounds.due(after, 0, now) if open_ else None
        await storage.update(connection, before, after, step.owes, due)
        return await self._caused(connection, after, step.commands, now)

    async def _caused(
        self, connection: AsyncConnection, order: Order, commands: Iterable[Command], now: datetime
    ) -> Moved:
        caused = messages(order, commands, new_id=self._new_id, time=now)
        await self._outbox.add(connection, caused)
        return Moved(order, caused)
