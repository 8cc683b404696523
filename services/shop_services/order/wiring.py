"""The only place that puts the parts of the order service and of its workers together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import SystemRandom

from grpc_registry import Registry
from shop.order.v1 import order_pb2, order_pb2_grpc
from shop_services.messaging.bus import Bus
from shop_services.messaging.connect import connect_bus
from shop_services.messaging.inbox import Inbox
from shop_services.messaging.outbox import Outbox
from shop_services.messaging.retry import RetryPolicy
from shop_services.order import storage
from shop_services.order.bounds import Bounds
from shop_services.order.handlers import Handlers
from shop_services.order.ids import OrderIds
from shop_services.order.payments import PaymentService
from shop_services.order.progress import CHANGED, Progress
from shop_services.order.servicer import OrderServicer
from shop_services.order.sweep import Sweep
from shop_services.order.upstream import InventoryService, ProductService, UserService
from shop_services.order.usecases import Orders
from shop_services.order.watch import Watches
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.ids import new_id
from shop_services.runtime.outgoing import service_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, Replies, migrate

NAME = "order"
MIGRATIONS = Path(__file__).parent / "migrations"

CONCURRENCY = {"orders": 3, "payments": 2, "inventory": 2}
"""How many messages of each topic a worker handles at a time if SHOP_CONCURRENCY does not say."""

# Twenty attempts take some six minutes: a service that restarts or a network that is cut for a while sends nothing to
# the dead letters, and an order that is lost there all the same is found by the sweep before it times out. A payment
# provider that is in trouble is not asked ten times in its first seconds.
RETRIES = {
    "orders": RetryPolicy(attempts=20),
    "payments": RetryPolicy(attempts=20, first=0.5),
    "inventory": RetryPolicy(attempts=20),
}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the service and its workers have in common: all that writes steps of orders."""

    database: Database
    bus: Bus
    bounds: Bounds
    progress: Progress


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The order service, which asks the services `user` and `product` that `registry` knows."""
    authority = Authority.open(settings, NAME)
    async with AsyncExitStack() as stack:
        parts = await _open(stack, settings, NAME)
        replies = Replies(parts.database, storage.replies, utc_now)
        await stack.enter_async_context(replies.sweeping())
        user = await stack.enter_async_context(service_channel("user", registry, settings, authority))
        product = await stack.enter_async_context(service_channel("product", registry, settings, authority))
        watches = Watches(storage.ChangedOrders(parts.database))
        stack.push_async_callback(watches.close)
        await stack.enter_async_context(parts.bus.listen(CHANGED, watches.changed))
        every = settings.order_stuck / 6
        sweep = Sweep(parts.database, parts.progress, parts.bus, parts.bounds, every, utc_now, SystemRandom())
        await stack.enter_async_context(sweep.sweeping())
        orders = Orders(
            parts.database,
            UserService(user),
            ProductService(product),
            InventoryService(product),
            parts.progress,
            watches,
            utc_now,
            OrderIds(time.time_ns, SystemRandom()),
        )
        service = order_pb2.DESCRIPTOR.services_by_name["OrderService"].full_name
        add = partial(order_pb2_grpc.add_OrderServiceServicer_to_server, OrderServicer(orders, replies))
        yield App(NAME, {service: add}, drain=watches.close, authority=authority)


@asynccontextmanager
async def wire_worker(topic: str, settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """A worker of one of the topics `orders`, `payments` and `inventory`: it serves nothing but its health."""
    name = f"{topic}-worker"
    authority = Authority.open(settings, NAME)
    async with AsyncExitStack() as stack:
        parts = await _open(stack, settings, name)
        product = await stack.enter_async_context(service_channel("product", registry, settings, authority))
        payment = await stack.enter_async_context(service_channel("payment", registry, settings, authority))
        handlers = Handlers(parts.database, parts.progress, InventoryService(product), PaymentService(payment))
        subscription = await stack.enter_async_context(
            parts.bus.subscribe(
                topic,
                handlers.of(topic),
                concurrency=settings.concurrency or CONCURRENCY[topic],
                retries=RETRIES[topic],
            )
        )
        yield App(name, {}, drain=partial(subscription.drain, settings.grace), authority=authority)


async def _open(stack: AsyncExitStack, settings: Settings, name: str) -> _Parts:
    database = await stack.enter_async_context(Database.of(settings, NAME))
    await migrate(database, NAME, MIGRATIONS)
    bus = connect_bus(settings, name=name, identity=NAME)
    stack.push_async_callback(bus.close)
    outbox = Outbox(database, storage.outbox, bus, utc_now)
    await stack.enter_async_context(outbox.relaying())
    inbox = Inbox(database, storage.inbox, utc_now)
    await stack.enter_async_context(inbox.sweeping())
    bounds = Bounds(timedelta(seconds=settings.order_stuck), timedelta(seconds=settings.order_timeout))
    return _Parts(database, bus, bounds, Progress(database, outbox, inbox, bus, bounds, utc_now, new_id))
