"""The catalog through caches: in this process first, then in the one that processes share.

No copy is shown that `RecentChanges` knows to be out of date, so deleting copies, or putting new ones in their place,
is no more than a courtesy that saves a read later on. Lists are not deleted one by one, for nobody knows which of their
pages are cached: a change of a product puts all copies of the lists of its categories, and of all, out of date.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from shop_services.caching.copies import ANY as ANY_COPY
from shop_services.caching.copies import Copy
from shop_services.caching.reading import ReadThrough
from shop_services.product.domain import Changes, ChangeType, NewProduct, Product
from shop_services.product.position import ANY, Position
from shop_services.product.reads import Answer, CatalogChanges, CatalogReads, Listing, Outcome
from shop_services.product.recent import CATEGORY, PRODUCT, RecentChanges
from shop_services.runtime.errors import Aborted, NotFound
from shop_services.runtime.paging import Page
from shop_services.storage import Mutation

R = TypeVar("R", bound=Message)
V = TypeVar("V")


class Keys:
    """The keys of copies. They begin with the catalog's random name, so that caches may be shared with other catalogs,
    and hold nothing for a new one in the place of one that is gone. One that was restored from a backup keeps its name:
    who sees it go back tells copies of what was lost by `RecentChanges`, who starts later cannot."""

    def __init__(self, incarnation: str) -> None:
        self._prefix = f"{incarnation}/"

    def product(self, product_id: str) -> str:
        """The key of a product."""
        return f"{self._prefix}{PRODUCT}{product_id}"

    def page(self, listing: Listing) -> str:
        """The key of a page."""
        return f"{self._prefix}{CATEGORY}{listing.category}/{listing.size}/{listing.after}"

    def product_id(self, key: str) -> str:
        """The id of the product whose key it is."""
        return key[len(self._prefix) + len(PRODUCT) :]

    def product_is_current(self, recent: RecentChanges) -> Callable[[str, int], bool]:
        """What a `ReadThrough` of products asks whether a copy is current."""
        start = len(self._prefix)
        return lambda key, as_of: recent.usable if as_of == ANY_COPY else recent.is_current(key[start:], as_of)

    def page_is_current(self, recent: RecentChanges) -> Callable[[str, int], bool]:
        """The same for pages: those of a category are current or not together."""
        start = len(self._prefix)

        def is_current(key: str, as_of: int) -> bool:
            return recent.usable if as_of == ANY_COPY else recent.is_current(key[start:].rsplit("/", 2)[0], as_of)

        return is_current


class CachedReads:
    """`CatalogReads` through caches to `source`.

    `reach` waits a moment for `recent` to know a revision. What is asked for a position that it does not reach is read
    from the source.
    """

    def __init__(
        self,
        source: CatalogReads,
        recent: RecentChanges,
        keys: Keys,
        products: ReadThrough[Product],
        pages: ReadThrough[Page[Product]],
        reach: Callable[[int], Awaitable[bool]],
    ) -> None:
        self._source = source
        self._recent = recent
        self._keys = keys
        self._products = products
        self._pages = pages
        self._reach = reach

    async def product(self, product_id: str, at: Position = ANY) -> Copy[Product]:
        """See `CatalogReads.product`."""
        if await self._reached(at):
            return await self._products.get(self._keys.product(product_id), partial(self._load, product_id))
        return self._seen(await self._source.product(product_id, at))

    async def products(self, product_ids: Sequence[str], at: Position = ANY) -> Mapping[str, Copy[Product]]:
        """See `CatalogReads.products`."""
        if await self._reached(at):
            copies = await self._products.get_many([self._keys.product(name) for name in product_ids], self._load_many)
            return {name: copies[self._keys.product(name)] for name in product_ids}
        return {name: self._seen(copy) for name, copy in (await self._source.products(product_ids, at)).items()}

    async def page(self, listing: Listing, at: Position = ANY) -> Copy[Page[Product]]:
        """See `CatalogReads.page`."""
        if await self._reached(at):
            return await self._pages.get(self._keys.page(listing), partial(self._load_page, listing))
        return self._seen(await self._source.page(listing, at))

    async def _reached(self, at: Position) -> bool:
        return at.revision <= self._recent.head or await self._reach(at.revision)

    async def _load(self, product_id: str) -> Copy[Product]:
        return self._seen(await self._source.product(product_id))

    async def _load_many(self, keys: Sequence[str]) -> Mapping[str, Copy[Product]]:
        copies = await self._source.products([self._keys.product_id(key) for key in keys])
        return {self._keys.product(name): self._seen(copy) for name, copy in copies.items()}

    async def _load_page(self, listing: Listing) -> Copy[Page[Product]]:
        return self._seen(await self._source.page(listing))

    def _seen(self, copy: Copy[V]) -> Copy[V]:
        self._recent.saw(copy.as_of)
        return copy


class CachedChanges:
    """`CatalogChanges` of `changes`, after each of which the caches forget the product (cache-aside), or with `through`
    have it as it is now. `changes` tells `recent` of what it commits.

    `notice` is called when others seem to have changed something that is not known here yet.
    """

    def __init__(
        self,
        changes: CatalogChanges,
        recent: RecentChanges,
        keys: Keys,
        products: ReadThrough[Product],
        notice: Callable[[], None],
        *,
        through: bool,
    ) -> None:
        self._changes = changes
        self._recent = recent
        self._keys = keys
        self._products = products
        self._notice = notice
        self._through = through

    async def create(self, new: NewProduct, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """See `CatalogChanges.create`."""
        return await self._done(await self._changes.create(new, mutation))

    async def update(self, product_id: str, changes: Changes, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """See `CatalogChanges.update`."""
        async with self._refusals(product_id):
            return await self._done(await self._changes.update(product_id, changes, etag, mutation))

    async def delete(self, product_id: str, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """See `CatalogChanges.delete`."""
        async with self._refusals(product_id):
            return await self._done(await self._changes.delete(product_id, etag, mutation))

    @asynccontextmanager
    async def _refusals(self, product_id: str) -> AsyncIterator[None]:
        """Who is refused may have read a copy of what is no more: the next read must not bring it again."""
        try:
            yield
        except (Aborted, NotFound):
            self._notice()
            await self._products.forget(self._keys.product(product_id))
            raise

    async def _done(self, answer: Answer[R]) -> Answer[R]:
        change = answer.change
        if change is None:
            # The reply tells of a state that another instance may have made, which is not known here yet.
            self._recent.require(answer.position.revision)
            self._notice()
            return answer
        key = self._keys.product(change.product.id)
        if self._through:
            product = None if change.type is ChangeType.DELETED else change.product
            await self._products.put(key, Copy(product, change.revision))
        else:
            await self._products.forget(key)
        return answer
