"""The only place that puts the parts of the product service together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom

from prometheus_client.registry import Collector

from grpc_registry import Registry
from shop.product.v1 import inventory_pb2, inventory_pb2_grpc, product_pb2, product_pb2_grpc
from shop_services.messaging.connect import connect_compacted
from shop_services.product import storage, tables
from shop_services.product.cached import CachedChanges
from shop_services.product.caches import HeardChanges, caching
from shop_services.product.counting import CatalogCounts
from shop_services.product.domain import Change
from shop_services.product.feed import ChangeFeed
from shop_services.product.inventory_servicer import InventoryServicer
from shop_services.product.inventory_usecases import Inventory
from shop_services.product.left_behind import refuse_pending
from shop_services.product.pending_counts import PendingCounts
from shop_services.product.reads import CatalogChanges, CatalogReads
from shop_services.product.servicer import ProductServicer
from shop_services.product.source import DatabaseReads
from shop_services.product.usecases import KEPT_CHANGES, Browsing, Products
from shop_services.product.writing_behind import writing_behind
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.ids import new_id
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, Replies, migrate

NAME = "product"
MIGRATIONS = Path(__file__).parent / "migrations"

RARELY = 5.0
"""Seconds between two looks of a feed that is called when there is something to see."""


@asynccontextmanager
async def wire(settings: Settings, registry: Registry, *, keep: int = KEPT_CHANGES) -> AsyncIterator[App]:
    """The product service. It keeps the latest `keep` changes.

    It uses the service `cache` where `registry` knows one, and the bus to hear of changes early: it needs neither.
    """
    authority = Authority.open(settings, NAME)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings, NAME))
        await migrate(database, NAME, MIGRATIONS)
        replies = Replies(database, tables.replies, utc_now)
        await stack.enter_async_context(replies.sweeping())
        catalog = await stack.enter_async_context(_catalog(settings, registry, authority, database, replies, keep))
        products = ProductServicer(Browsing(catalog.reads), catalog.changes, catalog.feed, replies)
        inventory = InventoryServicer(Inventory(database, utc_now), replies)
        service = product_pb2.DESCRIPTOR.services_by_name["ProductService"].full_name
        stock = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"].full_name
        yield App(
            NAME,
            {
                service: partial(product_pb2_grpc.add_ProductServiceServicer_to_server, products),
                stock: partial(inventory_pb2_grpc.add_InventoryServiceServicer_to_server, inventory),
            },
            drain=catalog.feed.close,
            collectors=catalog.collectors,
            authority=authority,
        )


@dataclass(frozen=True, slots=True)
class _Catalog:
    reads: CatalogReads
    changes: CatalogChanges
    feed: ChangeFeed
    collectors: Sequence[Collector] = ()


@asynccontextmanager
async def _catalog(
    settings: Settings, registry: Registry, authority: Authority, database: Database, replies: Replies, keep: int
) -> AsyncIterator[_Catalog]:
    """The catalog as CATALOG_CACHE says. Raises `StartError` if it cannot be so yet."""
    if settings.catalog_cache != "behind":
        left = connect_compacted(settings, "catalog", name=NAME)
        try:
            await refuse_pending(left)
        finally:
            await left.close()
    log = storage.Changes(database)
    if settings.catalog_cache == "off":
        feed = ChangeFeed(log)
        products = Products(database, lambda _change: feed.notice(), utc_now, new_id, keep=keep)
        try:
            yield _Catalog(DatabaseReads(database), products, feed)
        finally:
            await feed.close()
        return
    async with AsyncExitStack() as stack:
        caches = await stack.enter_async_context(caching(settings, registry, authority, database))
        feed = ChangeFeed(HeardChanges(log, caches.recent), poll_seconds=RARELY)
        stack.push_async_callback(feed.close)
        caches.follower.tell(feed.notice)  # it looks ten times a second: one task that does is enough

        def changed(change: Change) -> None:
            caches.changed(change)
            feed.notice()

        products = Products(database, changed, utc_now, new_id, keep=keep)
        changes = CachedChanges(
            products,
            caches.recent,
            caches.keys,
            caches.products,
            caches.follower.notice,
            through=settings.catalog_cache == "through",
        )
        if settings.catalog_cache != "behind":
            yield _Catalog(caches.reads, changes, feed, [CatalogCounts(caches)])
            return
        pending = connect_compacted(settings, "catalog", name=NAME)
        stack.push_async_callback(pending.close)
        behind = await stack.enter_async_context(
            writing_behind(
                pending,
                database,
                replies,
                caches.recent,
                reads=caches.reads,
                changes=changes,
                changed=changed,
                bound=settings.catalog_staleness,
                clock=utc_now,
                rng=SystemRandom(),
                keep=keep,
            )
        )
        counts = [CatalogCounts(caches), PendingCounts(behind.overlay)]
        yield _Catalog(behind.reads, behind.changes, feed, counts)
