"""The only place that puts the parts of the product service together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from grpc_registry import Registry
from shop.product.v1 import inventory_pb2, inventory_pb2_grpc, product_pb2, product_pb2_grpc
from shop_services.product import storage, tables
from shop_services.product.feed import ChangeFeed
from shop_services.product.inventory_servicer import InventoryServicer
from shop_services.product.inventory_usecases import Inventory
from shop_services.product.servicer import ProductServicer
from shop_services.product.usecases import KEPT_CHANGES, Products
from shop_services.runtime.app import App
from shop_services.runtime.ids import new_id
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, Replies, migrate

NAME = "product"
MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def wire(settings: Settings, registry: Registry, *, keep: int = KEPT_CHANGES) -> AsyncIterator[App]:
    """The product service; it calls no other, so it has no use for `registry`. It keeps the latest `keep` changes."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database(settings.database(NAME), service=NAME, pool=settings.database_pool)
        )
        await migrate(database, NAME, MIGRATIONS)
        replies = Replies(database, tables.replies, utc_now)
        await stack.enter_async_context(replies.sweeping())
        feed = ChangeFeed(storage.Changes(database))
        stack.push_async_callback(feed.close)
        products = ProductServicer(Products(database, feed, utc_now, new_id, keep=keep), feed, replies)
        inventory = InventoryServicer(Inventory(database, utc_now), replies)
        catalog = product_pb2.DESCRIPTOR.services_by_name["ProductService"].full_name
        stock = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"].full_name
        yield App(
            NAME,
            {
                catalog: partial(product_pb2_grpc.add_ProductServiceServicer_to_server, products),
                stock: partial(inventory_pb2_grpc.add_InventoryServiceServicer_to_server, inventory),
            },
            drain=feed.close,
        )
