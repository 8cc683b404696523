"""The catalog as its database has it now: what caches read through to, and what is read without any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shop_services.caching.copies import Copy
from shop_services.product import storage
from shop_services.product.domain import Product
from shop_services.product.position import ANY, Position
from shop_services.product.reads import Listing
from shop_services.runtime.errors import OutOfRange
from shop_services.runtime.paging import Page, make_page
from shop_services.storage import Database


class DatabaseReads:
    """`CatalogReads` of the database. Each is one statement, which also says as of which change it is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def product(self, product_id: str, at: Position = ANY) -> Copy[Product]:
        """See `CatalogReads.product`."""
        return (await self.products((product_id,), at))[product_id]

    async def products(self, product_ids: Sequence[str], at: Position = ANY) -> Mapping[str, Copy[Product]]:
        """See `CatalogReads.products`."""
        async with self._database.reading() as connection:
            as_of, found = await storage.read_many(connection, product_ids)
        _check(at, as_of)
        return {product_id: Copy(found.get(product_id), as_of) for product_id in product_ids}

    async def page(self, listing: Listing, at: Position = ANY) -> Copy[Page[Product]]:
        """See `CatalogReads.page`."""
        async with self._database.reading() as connection:
            as_of, found = await storage.read_page(connection, listing.category, listing.after, listing.size + 1)
        _check(at, as_of)
        return Copy(make_page(list(found), listing.size, listing.query, _cursor, _weight), as_of)


def _cursor(product: Product) -> tuple[int]:
    return (product.position,)


def _weight(product: Product) -> int:
    return product.weight


def _check(at: Position, as_of: int) -> None:
    if as_of < at.revision:
        raise OutOfRange(
            f"there is no revision {at.revision} yet; the latest change has {as_of}", reason="NO_SUCH_REVISION"
        )
