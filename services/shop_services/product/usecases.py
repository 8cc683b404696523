"""What can be done with the catalog."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.product import inventory_storage, storage
from shop_services.product.domain import KIND, Change, Changes, ChangeType, NewProduct, Product
from shop_services.product.feed import ChangeFeed
from shop_services.runtime.etags import check_etag
from shop_services.runtime.ids import NewId
from shop_services.runtime.paging import Page, make_page, read_token
from shop_services.runtime.times import Clock
from shop_services.storage import Database, Mutation

KEPT_CHANGES = 10_000
"""How many changes a watcher may lag behind."""

R = TypeVar("R", bound=Message)
Work = Callable[[AsyncConnection], Awaitable[Product]]


class Products:
    """The catalog of the shop. Its changes are written to the log that `feed` reads."""

    def __init__(
        self, database: Database, feed: ChangeFeed, clock: Clock, new_id: NewId, *, keep: int = KEPT_CHANGES
    ) -> None:
        self._database = database
        self._feed = feed
        self._clock = clock
        self._new_id = new_id
        self._keep = keep

    async def create(self, new: NewProduct, mutation: Mutation[Product, R]) -> R:
        """Put a product into the catalog, with its first stock. Raises `AlreadyExists` if its SKU is taken."""

        async def work(connection: AsyncConnection) -> Product:
            revision = await storage.next_revision(connection)
            now = self._clock()
            product = Product(
                id=self._new_id(),
                sku=new.sku,
                name=new.name,
                description=new.description,
                category=new.category,
                price=new.price,
                create_time=now,
                update_time=now,
                position=revision,
                revision=revision,
            )
            await storage.insert(connection, product)
            await inventory_storage.insert(connection, product.id, new.initial_stock)
            await storage.record(connection, Change(revision, ChangeType.CREATED, product), self._keep)
            return product

        return await self._commit(work, mutation)

    async def get(self, product_id: str) -> Product:
        """One product. Raises `NotFound`."""
        async with self._database.reading() as connection:
            return await storage.get(connection, product_id)

    async def get_many(self, product_ids: Sequence[str]) -> tuple[list[Product], list[str]]:
        """The products with those ids, and the ids that no product has, both in the order given."""
        async with self._database.reading() as connection:
            found = await storage.get_many(connection, product_ids)
        return (
            [found[product_id] for product_id in product_ids if product_id in found],
            [product_id for product_id in product_ids if product_id not in found],
        )

    async def page(self, category: str, size: int, token: str) -> Page[Product]:
        """Products of a category, or all if it is empty, in the order they came.

        Raises:
            InvalidArgument: `token` is broken, or belongs to another category.
        """
        query = {"list": "products", "category": category}
        cursor = read_token(token, query, (int,))
        after = 0 if cursor is None else int(cursor[0])
        async with self._database.reading() as connection:
            found = await storage.page(connection, category, after, size + 1)
        return make_page(found, size, query, lambda product: (product.position,), lambda product: product.weight)

    async def update(self, product_id: str, changes: Changes, etag: str, mutation: Mutation[Product, R]) -> R:
        """Change a product. What changes nothing is no change. Raises `NotFound`, or `Aborted` for another's `etag`."""

        async def work(connection: AsyncConnection) -> Product:
            revision = await storage.next_revision(connection)
            product = await storage.get(connection, product_id)
            check_etag(etag, KIND, product_id, product.revision)
            changed = product.changed(changes, self._clock(), revision)
            if changed is not product:
                await storage.update(connection, changed)
                await storage.record(connection, Change(revision, ChangeType.UPDATED, changed), self._keep)
            return changed

        return await self._commit(work, mutation)

    async def delete(self, product_id: str, etag: str, mutation: Mutation[Product, R]) -> R:
        """Take a product out of the catalog and off the sale: orders keep what they have reserved of it.

        Raises `NotFound`, or `Aborted` if `etag` is of another state.
        """

        async def work(connection: AsyncConnection) -> Product:
            revision = await storage.next_revision(connection)
            product = await storage.get(connection, product_id)
            check_etag(etag, KIND, product_id, product.revision)
            await storage.delete(connection, product_id)
            await inventory_storage.delist(connection, product_id)
            await storage.record(connection, Change(revision, ChangeType.DELETED, product), self._keep)
            return product

        return await self._commit(work, mutation)

    async def _commit(self, work: Work, mutation: Mutation[Product, R]) -> R:
        reply = await mutation.commit(work)
        self._feed.notice()
        return reply
