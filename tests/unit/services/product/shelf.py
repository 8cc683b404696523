"""A catalog in memory that has what the caches of the real one need: reads, changes, and a log of what they touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from shop_services.caching.backend import Backend
from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Copy
from shop_services.caching.reading import ReadThrough
from shop_services.product.cached import CachedChanges, CachedReads, Keys
from shop_services.product.domain import Change, Changes, ChangeType, NewProduct, Product
from shop_services.product.encoding import PageCodec, ProductCodec
from shop_services.product.following import Follower, Look
from shop_services.product.position import ANY, Position
from shop_services.product.reads import Answer, Listing, Outcome
from shop_services.product.recent import RecentChanges, Touched
from shop_services.runtime.errors import Aborted, NotFound, Unavailable
from shop_services.runtime.money import Money
from shop_services.runtime.paging import Page
from shop_services.storage import Mutation

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUND = 1.0

R = TypeVar("R", bound=Message)
V = TypeVar("V")


def make_product(product_id: str, /, **fields: Any) -> Product:
    """A product whose SKU is its id."""
    product = Product(product_id, product_id, f"The {product_id}", "", "things", Money("EUR", 100), NOW, NOW, 1, 1)
    return replace(product, **fields)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """The database: `CatalogReads`, `CatalogChanges` and a `TouchedLog`. It counts its reads, and fails while `away`.

    A read that finds `gate` closed has its answer already, and gives it once that is open.
    """

    def __init__(self) -> None:
        self.products_by_id: dict[str, Product] = {}
        self.log: list[Touched] = []
        self.reads = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = asyncio.Event()
        self.changed: Callable[[Change], None] = lambda change: None
        """Called with each change made through the `CatalogChanges` here."""

    @property
    def revision(self) -> int:
        return len(self.log)

    def change(self, product: Product, kind: ChangeType = ChangeType.UPDATED) -> Change:
        """Make a change as some other instance does."""
        before = self.products_by_id.get(product.id)
        product = replace(
            product, revision=self.revision + 1, position=before.position if before else self.revision + 1
        )
        previous = before.category if before is not None and kind is ChangeType.UPDATED else None
        change = Change(self.revision + 1, kind, product, previous)
        self.log.append(Touched.by(change))
        if kind is ChangeType.DELETED:
            del self.products_by_id[product.id]
        else:
            self.products_by_id[product.id] = product
        return change

    def create_one(self, product_id: str, /, **fields: Any) -> Change:
        """Another instance creates a product."""
        return self.change(make_product(product_id, **fields), ChangeType.CREATED)

    def update_one(self, product_id: str, /, **fields: Any) -> Change:
        """Another instance updates it."""
        return self.change(replace(self.products_by_id[product_id], **fields))

    def delete_one(self, name: str) -> Change:
        """Another instance deletes it."""
        return self.change(self.products_by_id[name], ChangeType.DELETED)

    async def product(self, product_id: str, at: Position = ANY) -> Copy[Product]:
        return (await self.products((product_id,), at))[product_id]

    async def products(self, product_ids: Sequence[str], at: Position = ANY) -> Mapping[str, Copy[Product]]:
        return await self._read({name: Copy(self.products_by_id.get(name), self.revision) for name in product_ids})

    async def page(self, listing: Listing, at: Position = ANY) -> Copy[Page[Product]]:
        found = sorted(self.products_by_id.values(), key=lambda product: product.position)
        items = [product for product in found if listing.category in ("", product.category)]
        return await self._read(Copy(Page(tuple(items[: listing.size])), self.revision))

    async def touched(self, after: int, limit: int) -> Look:
        if self.away:
            raise Unavailable("away")
        return Look(self.revision, self.log[after : after + limit])

    async def create(self, new: NewProduct, mutation: Mutation[Outcome, R]) -> Answer[Any]:
        return self._done(self.create_one(new.sku, category=new.category))

    async def update(self, product_id: str, changes: Changes, etag: str, mutation: Mutation[Outcome, R]) -> Answer[Any]:
        self._check(product_id, etag)
        if not changes:  # as for a change that changes nothing, and a request that was done before
            return Answer(Empty(), Position(self.revision))
        return self._done(self.update_one(product_id, **changes))

    async def delete(self, product_id: str, etag: str, mutation: Mutation[Outcome, R]) -> Answer[Any]:
        self._check(product_id, etag)
        return self._done(self.delete_one(product_id))

    def _check(self, product_id: str, etag: str) -> None:
        if product_id not in self.products_by_id:
            raise NotFound("product", product_id)
        if etag not in ("", str(self.products_by_id[product_id].revision)):
            raise Aborted("product", product_id)

    def _done(self, change: Change) -> Answer[Any]:
        self.changed(change)
        return Answer(Empty(), Position(change.revision), change)

    async def _read(self, answer: V) -> V:
        self.reads += 1
        self.reading.set()
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        return answer


class Instance:
    """An instance of the service over a `Shelf`, which looks at the log when it is told to, and else not."""

    def __init__(self, shelf: Shelf, clock: Clock, shared: Backend | None, *, through: bool = False) -> None:
        self.shelf, self.clock = shelf, clock
        self.recent = RecentChanges(BOUND, clock=clock)
        self.follower = Follower(shelf, self.recent, clock=clock)
        self.hints = 0
        self.alert = False
        """Whether it looks when a position is asked for that it does not know."""
        keys = Keys("shelf")
        self.products = self._reading("products", ProductCodec(), keys.product_is_current(self.recent), shared)
        self.pages = self._reading("pages", PageCodec(), keys.page_is_current(self.recent), shared)
        self.reads = CachedReads(shelf, self.recent, keys, self.products, self.pages, self._reach)
        self.changes = CachedChanges(shelf, self.recent, keys, self.products, self._hint, through=through)

    def _hint(self) -> None:
        self.hints += 1

    async def _reach(self, revision: int) -> bool:
        self._hint()
        if self.alert:
            await self.look()
        return self.recent.head >= revision

    def _reading(
        self, name: str, codec: Any, is_current: Callable[[str, int], bool], shared: Backend | None
    ) -> ReadThrough[Any]:
        return ReadThrough(
            name,
            local=Bounded("lru", max_entries=100, clock=self.clock),
            shared=shared,
            codec=codec,
            is_current=is_current,
            ttl=300,
            negative_ttl=30,
            rng=Random(7),
            clock=self.clock,
            wall=self.clock,
        )

    async def look(self) -> None:
        """Look at the log until there is nothing more to see."""
        seen = False
        while not seen:
            after, began = self.recent.head, self.clock()
            look = await self.shelf.touched(after, 1000)
            seen = self.recent.looked(began, after, look.revision, look.found)

    async def name(self, product_id: str, at: Position = ANY) -> str | None:
        """What the product is called; None: there is none."""
        product = (await self.reads.product(product_id, at)).value
        return None if product is None else product.name

    async def ids(self, category: str = "", at: Position = ANY) -> list[str]:
        """The products of a category."""
        page = (await self.reads.page(Listing(category, 50), at)).value
        assert page is not None
        return [product.id for product in page.items]

    def here(self, change: Callable[[], Awaitable[Answer[Any]]]) -> Awaitable[Answer[Any]]:
        """Make a change through this instance: it is told of what is committed."""
        self.shelf.changed = lambda made: self.recent.told(Touched.by(made))
        return change()


@asynccontextmanager
async def instances(
    shelf: Shelf, clock: Clock, shared: Backend | None, count: int = 1, *, through: bool = False
) -> AsyncIterator[list[Instance]]:
    """So many instances that know all that happened so far."""
    async with AsyncExitStack() as stack:
        made = [Instance(shelf, clock, shared, through=through) for _ in range(count)]
        for instance in made:
            await stack.enter_async_context(instance.products)
            await stack.enter_async_context(instance.pages)
            await instance.look()
        yield made
