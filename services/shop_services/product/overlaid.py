"""Reads of the catalog that show what is pending over what the database, or a cache of it, has.

Every read first makes sure that what is known of the log is not older than the bound of staleness, as caches do with
the database; it waits a little for that, and fails rather than show what may be older.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shop_services.caching.copies import Copy
from shop_services.product.domain import Product
from shop_services.product.overlay import Overlay, Unsure
from shop_services.product.pending import Pending
from shop_services.product.position import ANY, Position
from shop_services.product.reads import CatalogReads, Listing
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.paging import MAX_PAGE_BYTES, Page, make_token

ATTEMPTS = 5
"""How often a read begins again since what it would have shown was written meanwhile."""


class OverlaidReads:
    """`CatalogReads` of `reads` under `overlay`, which may be `bound` seconds old.

    A pending product is shown on the pages that the database has it on, unless it has left their category. One that has
    entered a category is on its pages when the change is written.
    """

    def __init__(self, reads: CatalogReads, overlay: Overlay, bound: float) -> None:
        self._reads = reads
        self._overlay = overlay
        self._bound = bound

    async def product(self, product_id: str, at: Position = ANY) -> Copy[Product]:
        """See `CatalogReads.product`."""
        return (await self.products((product_id,), at))[product_id]

    async def products(self, product_ids: Sequence[str], at: Position = ANY) -> Mapping[str, Copy[Product]]:
        """See `CatalogReads.products`."""
        for _ in range(ATTEMPTS):
            began, epoch = await self._begin(at)
            try:
                pending = self._shown(product_ids, began, at)
                if rest := [product_id for product_id in product_ids if product_id not in pending]:
                    found = await self._read(rest, at)
                    pending = {**found, **pending, **self._shown(product_ids, began, at)}
            except Unsure:
                continue
            if self._overlay.epoch == epoch:
                return pending
        raise _restless()

    async def page(self, listing: Listing, at: Position = ANY) -> Copy[Page[Product]]:
        """See `CatalogReads.page`."""
        for _ in range(ATTEMPTS):
            began, epoch = await self._begin(at)
            copy = await self._reads.page(listing, at)
            page = copy.value or Page(())
            try:
                states = self._states([product.id for product in page.items], began)
            except Unsure:
                continue
            if self._overlay.epoch == epoch:
                return replace(copy, value=overlaid(page, listing, states)) if states else copy
        raise _restless()

    async def _begin(self, at: Position) -> tuple[float, int]:
        now = self._overlay.clock()
        # Who knows a change of the database may know what others had put by then.
        await self._overlay.fresh(now if at.revision else now - self._bound, at.pending)
        return self._overlay.clock(), self._overlay.epoch

    async def _read(self, product_ids: Sequence[str], at: Position) -> Mapping[str, Copy[Product]]:
        if len(product_ids) == 1:
            return {product_ids[0]: await self._reads.product(product_ids[0], at)}
        return await self._reads.products(product_ids, at)

    def _shown(self, product_ids: Sequence[str], began: float, at: Position) -> dict[str, Copy[Product]]:
        return {
            product_id: Copy(None if state.deleted else state.product, at.revision)
            for product_id, state in self._states(product_ids, began).items()
        }

    def _states(self, product_ids: Sequence[str], began: float) -> dict[str, Pending]:
        found = ((product_id, self._overlay.shown(product_id, began)) for product_id in product_ids)
        return {product_id: state for product_id, state in found if state is not None}


def overlaid(page: Page[Product], listing: Listing, states: Mapping[str, Pending]) -> Page[Product]:
    """`page` with its pending products as they are. It may get shorter, and goes on where it went on."""
    items: list[Product] = []
    total = 0
    for item in page.items:
        state = states.get(item.id)
        product = item if state is None else state.product
        if state is not None and (state.deleted or listing.category not in ("", product.category)):
            continue
        total += product.weight
        if total > MAX_PAGE_BYTES and items:
            return Page(tuple(items), make_token((items[-1].position,), listing.query))
        items.append(product)
    return Page(tuple(items), page.next_token)


def _restless() -> Unavailable:
    return Unavailable("what was to be read was changed and written again and again meanwhile; try again")
