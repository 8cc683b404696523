"""The only place that puts the parts of the order service together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import SystemRandom

from grpc_registry import Registry
from shop.order.v1 import order_pb2, order_pb2_grpc
from shop_services.order import storage
from shop_services.order.ids import OrderIds
from shop_services.order.servicer import OrderServicer
from shop_services.order.upstream import ProductService, UserService
from shop_services.order.usecases import Orders
from shop_services.order.watch import Watches
from shop_services.runtime.app import App
from shop_services.runtime.outgoing import service_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, Replies, migrate

NAME = "order"
MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The order service, which asks the services `user` and `product` that `registry` knows."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database(settings.database(NAME), service=NAME, pool=settings.database_pool)
        )
        await migrate(database, NAME, MIGRATIONS)
        replies = Replies(database, storage.replies, utc_now)
        await stack.enter_async_context(replies.sweeping())
        users = UserService(await stack.enter_async_context(service_channel("user", registry, settings.zone)))
        catalog = ProductService(await stack.enter_async_context(service_channel("product", registry, settings.zone)))
        watches = Watches(storage.ChangedOrders(database))
        stack.push_async_callback(watches.close)
        new_id = OrderIds(time.time_ns, SystemRandom())
        servicer = OrderServicer(Orders(database, users, catalog, watches, utc_now, new_id), replies)
        service = order_pb2.DESCRIPTOR.services_by_name["OrderService"].full_name
        add = partial(order_pb2_grpc.add_OrderServiceServicer_to_server, servicer)
        yield App(NAME, {service: add}, drain=watches.close)
