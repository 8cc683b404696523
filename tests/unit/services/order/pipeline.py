"""The whole pipeline in one process: a real SQLite database, a bus in memory, beside stock and payments in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from shop.events.v1.events_pb2 import Envelope
from shop.order.v1 import order_pb2 as pb
from shop_services.messaging.bus import Message
from shop_services.messaging.inbox import Inbox
from shop_services.messaging.memory import MemoryBus
from shop_services.messaging.outbox import Outbox
from shop_services.messaging.retry import RetryPolicy
from shop_services.order import storage
from shop_services.order.bounds import Bounds
from shop_services.order.domain import Line, Order
from shop_services.order.handlers import Handlers
from shop_services.order.ids import OrderIds
from shop_services.order.progress import Moved, Progress
from shop_services.order.saga import Event
from shop_services.order.sweep import Sweep
from shop_services.order.usecases import Orders
from shop_services.order.watch import Watches
from shop_services.order.wiring import MIGRATIONS
from shop_services.storage import Database, Mutation, Replies, migrate
from tests.unit.services.order.fake_payments import FakePayments
from tests.unit.services.order.fake_stock import FakeStock
from tests.unit.services.order.known import KnownProducts, KnownUsers

LINES = [Line("pen", 3), Line("ink", 1)]
STUCK, TIMEOUT = timedelta(seconds=30), timedelta(minutes=15)


class Clock:
    """A millisecond passes with each look at it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@dataclass
class Pipeline:
    """The use cases and the handlers, and all that is around them. Users are `ann` and `bob`."""

    database: Database
    users: KnownUsers = field(default_factory=lambda: KnownUsers("ann", "bob"))
    catalog: KnownProducts = field(default_factory=KnownProducts)
    stock: FakeStock = field(default_factory=lambda: FakeStock(pen=10, ink=10, gift=10))
    payments: FakePayments = field(default_factory=FakePayments)
    clock: Clock = field(default_factory=Clock)
    outbox: Any = None

    def __post_init__(self) -> None:
        numbers = count(1)
        self.told: list[Envelope] = []
        self.bus = MemoryBus(rng=Random(1))
        self.outbox = self.outbox or Outbox(self.database, storage.outbox, self.bus, self.clock, rng=Random(1))
        inbox = Inbox(self.database, storage.inbox, self.clock)
        bounds = Bounds(STUCK, TIMEOUT)
        self.progress = Progress(
            self.database,
            self.outbox,
            inbox,
            self.bus,
            bounds,
            self.clock,
            lambda: f"m{next(numbers)}",
        )
        self.handlers = Handlers(self.database, self.progress, self.stock, self.payments)
        self.sweep = Sweep(self.database, self.progress, self.bus, bounds, 5.0, self.clock, Random(1))
        self.watches = Watches(storage.ChangedOrders(self.database))
        ids = OrderIds(lambda: int(self.clock.now.timestamp()) * 10**9, Random(1))
        self.orders = Orders(
            self.database, self.users, self.catalog, self.stock, self.progress, self.watches, self.clock, ids
        )
        self.replies = Replies(self.database, storage.replies, self.clock)
        self.catalog.add("pen", 250, name="Pen")
        self.catalog.add("ink", 999, name="Ink")
        self.catalog.add("gift", 0, name="Gift")

    async def create(
        self, request_id: str = "r1", user: str = "ann", lines: Sequence[Line] = LINES, method: str = ""
    ) -> Order:
        return await self.orders.create(request_id, user, lines, method)

    async def cancel(
        self, order_id: str, *, reason: str = "", etag: str = "", request_id: str = "", owner: str | None = None
    ) -> int:
        """Cancel, and return the version that the answer told."""
        request = pb.CancelOrderRequest(order_id=order_id, reason=reason, etag=etag, request_id=request_id)
        mutation: Mutation[Moved, pb.CancelOrderResponse] = self.replies.mutation(request, pb.CancelOrderResponse, told)
        return (await self.orders.cancel(order_id, reason, etag, mutation, owner)).order.version

    async def happened(self, order_id: str, *events: Event) -> Order:
        """Let events happen to an order that no worker handles."""
        for event in events:
            happened = partial(self.progress.happened, order=await self.orders.get(order_id), event=event)
            await self.database.atomically(happened)
        return await self.orders.get(order_id)

    async def all(self) -> Sequence[Order]:
        return (await self.orders.page("", None, 1000, "")).items

    async def outgoing(self) -> list[Message]:
        """The messages that were written and not yet sent, oldest first."""
        table = storage.outbox
        async with self.database.reading() as connection:
            rows = (await connection.execute(table.select().order_by(table.c.create_time, table.c.id))).all()
        return [Message(row.topic, Envelope.FromString(row.envelope)) for row in rows]

    async def deliver(self, message: Message) -> None:
        """Handle one message as its worker does; a customer's is kept in `told`. It is gone from the outbox then."""
        if message.topic == "notifications":
            self.told.append(message.envelope)
        else:
            await self.handlers.of(message.topic)(message.envelope)
        await self.lose(message)

    async def lose(self, message: Message) -> None:
        """Take a message from the outbox."""
        gone = storage.outbox.delete().where(storage.outbox.c.id == message.envelope.id)
        await self.database.atomically(lambda connection: connection.execute(gone))

    async def run(self) -> None:
        """Handle all messages, and those that they cause, until there are none."""
        while outgoing := await self.outgoing():
            for message in outgoing:
                await self.deliver(message)

    @asynccontextmanager
    async def working(self, retries: RetryPolicy) -> AsyncIterator[asyncio.Queue[Envelope]]:
        """Relay messages, and handle them in workers, inside of the block. Yields what customers are told."""
        told: asyncio.Queue[Envelope] = asyncio.Queue()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.outbox.relaying())
            for topic in ("orders", "payments", "inventory"):
                handler = self.handlers.of(topic)
                await stack.enter_async_context(self.bus.subscribe(topic, handler, concurrency=2, retries=retries))
            await stack.enter_async_context(
                self.bus.subscribe("notifications", told.put, concurrency=1, retries=retries)
            )
            yield told


def told(moved: Moved) -> pb.CancelOrderResponse:
    return pb.CancelOrderResponse(order=pb.Order(version=moved.order.version))


@asynccontextmanager
async def open_pipeline(directory: Path) -> AsyncIterator[Pipeline]:
    """A pipeline with an empty database."""
    async with Database(f"sqlite:///{directory}/order.db", service="order") as database:
        await migrate(database, "order", MIGRATIONS)
        pipeline = Pipeline(database)
        yield pipeline
        await pipeline.watches.close()
