"""The caches of the catalog put together: what is in this process, what is shared, and who keeps them up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from grpc_registry import Registry
from shop_services.caching.backend import Backend
from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Codec, Copy
from shop_services.caching.reading import ReadThrough
from shop_services.messaging.bus import Bus
from shop_services.messaging.connect import connect_bus
from shop_services.product import storage
from shop_services.product.cached import CachedReads, Keys
from shop_services.product.domain import Change, Product
from shop_services.product.encoding import PageCodec, ProductCodec
from shop_services.product.feed import ChangeLog
from shop_services.product.following import INTERVAL, PATIENCE, Follower
from shop_services.product.recent import RecentChanges, Touched
from shop_services.product.shared import shared_cache
from shop_services.product.source import DatabaseReads
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.paging import Page
from shop_services.runtime.settings import Settings
from shop_services.storage import Database

V = TypeVar("V")

CHANNEL = "catalog"
"""Where changes are announced to other instances, by the id of the product."""
NEGATIVE_TTL = 30.0
"""Seconds for which it is remembered at most that there is no product with some id. It is forgotten when there is."""
_BYTES_AROUND = 500  # what a copy takes beside its value
LOCAL_BYTES = 64 * 1024 * 1024
"""About how many bytes products take in a process at most, and pages as many."""


@dataclass(frozen=True, slots=True)
class Caches:
    """What reads and changes need of the caches."""

    reads: CachedReads
    products: ReadThrough[Product]
    pages: ReadThrough[Page[Product]]
    keys: Keys
    recent: RecentChanges
    follower: Follower
    bus: Bus

    def changed(self, change: Change) -> None:
        """Take note of a change that was just committed here, and announce it."""
        self.recent.told(Touched.by(change))
        self.bus.announce(CHANNEL, change.product.id)


class HeardChanges:
    """The `ChangeLog` of watchers, who are told nothing that `recent` does not know: they may read at once what it is
    that they were told of."""

    def __init__(self, log: ChangeLog, recent: RecentChanges) -> None:
        self._log = log
        self._recent = recent

    async def latest(self) -> int:
        """See `ChangeLog.latest`."""
        return await self._log.latest()

    async def after(self, revision: int, limit: int) -> Sequence[Change]:
        """See `ChangeLog.after`."""
        changes = await self._log.after(revision, limit)
        for change in changes:
            self._recent.told(Touched.by(change))
        return changes


@asynccontextmanager
async def caching(
    settings: Settings, registry: Registry, authority: Authority, database: Database
) -> AsyncIterator[Caches]:
    """Caches before `database`, and what keeps them up to date. Neither the shared cache nor the bus need be there."""
    async with AsyncExitStack() as stack:
        async with database.reading() as connection:
            keys = Keys(await storage.incarnation(connection))
        recent = RecentChanges(settings.catalog_staleness)
        interval = min(INTERVAL, settings.catalog_staleness / 4)
        # On a connection of its own: in the queue of the reads it would be late, and then all copies are no use.
        looking = await stack.enter_async_context(database.patient(PATIENCE))
        follower = Follower(storage.Changes(looking), recent, interval=interval)
        await stack.enter_async_context(follower.following())
        bus = connect_bus(settings, name="product")
        stack.push_async_callback(bus.close)
        await stack.enter_async_context(bus.listen(CHANNEL, lambda _product_id: follower.notice()))
        shared = await stack.enter_async_context(shared_cache(settings, registry, authority))
        through = _Through(settings, shared)
        products = await stack.enter_async_context(
            through.of("products", ProductCodec(), keys.product_is_current(recent), lambda product: product.weight)
        )
        pages = await stack.enter_async_context(
            through.of("pages", PageCodec(), keys.page_is_current(recent), _weight_of_page)
        )
        reads = CachedReads(DatabaseReads(database), recent, keys, products, pages, follower.reach)
        yield Caches(reads, products, pages, keys, recent, follower, bus)


class _Through:
    """Makes `ReadThrough`s that share a cache, each with a store of its own in this process."""

    def __init__(self, settings: Settings, shared: Backend | None) -> None:
        self._settings = settings
        self._shared = shared
        self._rng = Random()

    def of(
        self, name: str, codec: Codec[V], is_current: Callable[[str, int], bool], weigh: Callable[[V], int]
    ) -> ReadThrough[V]:
        settings = self._settings

        def size_of(_key: str, copy: Copy[V]) -> int:
            return _BYTES_AROUND + (0 if copy.value is None else weigh(copy.value))

        return ReadThrough(
            name,
            local=Bounded("lru", max_entries=settings.catalog_entries, max_bytes=LOCAL_BYTES, size_of=size_of),
            shared=self._shared,
            codec=codec,
            is_current=is_current,
            ttl=settings.catalog_ttl,
            negative_ttl=min(NEGATIVE_TTL, settings.catalog_ttl),
            timeout=settings.cache_timeout,
            rng=self._rng,
        )


def _weight_of_page(page: Page[Product]) -> int:
    return sum(product.weight for product in page.items)
