"""What workers do with the messages of the topics `orders`, `payments` and `inventory`.

Each is handled the same way: read the order; if it still waits for this, ask the other service, which does it once
however often it is asked; then write what came of it in one transaction. A message is late if the order has moved on
before; if it moved meanwhile, the saga knows what that means, and compensations keep out whatever was done too late.

What is not known to have been done (`Unavailable`, a deadline) is raised: the message is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Handler, Reject
from shop_services.order import storage
from shop_services.order.domain import Order
from shop_services.order.payments import PaymentProvider, PaymentRefused, PaymentVoided
from shop_services.order.progress import Progress
from shop_services.order.saga import DUE, Command, Event
from shop_services.order.upstream import Stock, StockRefused
from shop_services.runtime.errors import DeadlineExceeded, NotFound
from shop_services.storage import Database

DEADLINE = 30.0
"""Seconds that a message may take: two calls of 5 s each, and the waits for a busy database."""

Outcome = tuple[Event, str]
"""What happened, and why: for people."""


class Handlers:
    """The handlers of all topics of the saga."""

    def __init__(self, database: Database, progress: Progress, stock: Stock, payments: PaymentProvider) -> None:
        self._database = database
        self._progress = progress
        self._stock = stock
        self._payments = payments
        self._forward: Mapping[Command, Callable[[Order], Awaitable[Outcome]]] = {
            Command.RESERVE: self._reserve,
            Command.CHARGE: self._charge,
            Command.COMMIT: self._commit,
        }
        self._back: Mapping[Command, Callable[[Order], Awaitable[None]]] = {
            Command.RELEASE: self._release,
            Command.REFUND: self._refund,
        }

    def of(self, topic: str) -> Handler:
        """The handler of the messages of `topic`. It raises `Reject` for what can never be handled there."""
        commands = {command.type: command for command in Command if command.topic == topic}

        async def handle(envelope: Envelope) -> None:
            if (command := commands.get(envelope.type)) is None:
                raise Reject(f"the topic {topic} has no messages of type {envelope.type!r}")
            try:
                async with asyncio.timeout(DEADLINE):
                    await self._do(command, envelope)
            except TimeoutError:
                raise DeadlineExceeded(f"{command.type} took more than {DEADLINE:.0f} s") from None

        return handle

    async def _do(self, command: Command, envelope: Envelope) -> None:
        order, owes = await self._read(envelope.order_id)
        if command in self._back:
            if command in owes:
                await self._back[command](order)
                await self._progress.settled(envelope, command)
        elif DUE.get(order.status) is command:
            event, reason = await self._forward[command](order)
            await self._progress.handled(envelope, order, event, reason)

    async def _read(self, order_id: str) -> tuple[Order, frozenset[Command]]:
        try:
            async with self._database.reading() as connection:
                return await storage.get_owing(connection, order_id)
        except NotFound as error:
            raise Reject(error.message) from error

    async def _reserve(self, order: Order) -> Outcome:
        try:
            await self._stock.reserve(order.id, order.lines)
        except StockRefused as refused:
            return Event.STOCK_REFUSED, str(refused)
        return Event.STOCK_RESERVED, ""

    async def _charge(self, order: Order) -> Outcome:
        if order.total.hundredths:
            try:
                await self._payments.authorize(order.id, order.total, order.payment_method)
                await self._payments.capture(order.id)
            except PaymentRefused as refused:
                return Event.PAYMENT_REFUSED, f"payment refused: {refused.decline_code}"
            except PaymentVoided:
                return Event.PAYMENT_REFUSED, "its payment was refunded"
        return Event.PAID, ""

    async def _commit(self, order: Order) -> Outcome:
        try:
            await self._stock.commit(order.id)
        except StockRefused:
            return Event.STOCK_REFUSED, "its stock was released"
        return Event.STOCK_COMMITTED, ""

    async def _release(self, order: Order) -> None:
        try:
            await self._stock.release(order.id)
        except StockRefused as refused:  # the saga never gives up an order whose stock is sold: for a person to see
            raise Reject(f"the order is {order.status}, but {refused}") from refused

    async def _refund(self, order: Order) -> None:
        if order.total.hundredths:
            await self._payments.refund(order.id)
