"""What can be done with the catalog: `Browsing`, over whatever reads it, and the changes of its database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.product import inventory_storage, storage
from shop_services.product.domain import KIND, Change, Changes, ChangeType, NewProduct, Product
from shop_services.product.position import ANY, Position
from shop_services.product.reads import Answer, CatalogReads, Listing, Outcome
from shop_services.runtime.errors import NotFound
from shop_services.runtime.etags import check_etag
from shop_services.runtime.ids import NewId
from shop_services.runtime.paging import Page
from shop_services.runtime.times import Clock
from shop_services.storage import Database, Mutation

KEPT_CHANGES = 10_000
"""How many changes a watcher may lag behind."""

R = TypeVar("R", bound=Message)
Work = Callable[[AsyncConnection], Awaitable[Outcome]]


class Browsing:
    """What callers may ask of the catalog. `at` is a position that they know: nothing older is an answer."""

    def __init__(self, reads: CatalogReads) -> None:
        self._reads = reads

    async def get(self, product_id: str, at: Position = ANY) -> Product:
        """One product. Raises `NotFound`."""
        copy = await self._reads.product(product_id, at)
        if copy.value is None:
            raise NotFound(KIND, product_id)
        return copy.value

    async def get_many(self, product_ids: Sequence[str], at: Position = ANY) -> tuple[list[Product], list[str]]:
        """The products with those ids, and the ids that no product has, both in the order given."""
        copies = await self._reads.products(product_ids, at)
        values = [(product_id, copies[product_id].value) for product_id in product_ids]
        return [value for _, value in values if value is not None], [name for name, value in values if value is None]

    async def page(self, category: str, size: int, token: str, at: Position = ANY) -> Page[Product]:
        """Products of a category, or all if it is empty, in the order they came.

        Raises:
            InvalidArgument: `token` is broken, or belongs to another category.
        """
        copy = await self._reads.page(Listing.of(category, size, token), at)
        return copy.value or Page(())


class Products:
    """The catalog of the shop: `CatalogChanges` of its database.

    `changed` is called with each change, once it is committed and before its caller is answered; it must be quick.
    """

    def __init__(
        self,
        database: Database,
        changed: Callable[[Change], None],
        clock: Clock,
        new_id: NewId,
        *,
        keep: int = KEPT_CHANGES,
    ) -> None:
        self._changes = storage.Changes(database)
        self._changed = changed
        self._clock = clock
        self._new_id = new_id
        self._keep = keep

    async def create(self, new: NewProduct, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """Put a product into the catalog, with its first stock. Raises `AlreadyExists` if its SKU is taken."""

        async def work(connection: AsyncConnection) -> Outcome:
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
            return await self._record(connection, Change(revision, ChangeType.CREATED, product))

        return await self._commit(work, mutation)

    async def update(self, product_id: str, changes: Changes, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """Change a product. What changes nothing is no change. Raises `NotFound`, or `Aborted` for another's `etag`."""

        async def work(connection: AsyncConnection) -> Outcome:
            revision = await storage.next_revision(connection)
            product = await storage.get(connection, product_id)
            check_etag(etag, KIND, product_id, product.revision)
            changed = product.changed(changes, self._clock(), revision)
            if changed is product:
                return Outcome(product, revision - 1)
            await storage.update(connection, changed)
            return await self._record(connection, Change(revision, ChangeType.UPDATED, changed, product.category))

        return await self._commit(work, mutation)

    async def delete(self, product_id: str, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """Take a product out of the catalog and off the sale: orders keep what they have reserved of it.

        Raises `NotFound`, or `Aborted` if `etag` is of another state.
        """

        async def work(connection: AsyncConnection) -> Outcome:
            revision = await storage.next_revision(connection)
            product = await storage.get(connection, product_id)
            check_etag(etag, KIND, product_id, product.revision)
            await storage.delete(connection, product_id)
            await inventory_storage.delist(connection, product_id)
            return await self._record(connection, Change(revision, ChangeType.DELETED, product))

        return await self._commit(work, mutation)

    async def _record(self, connection: AsyncConnection, change: Change) -> Outcome:
        await storage.record(connection, change, self._keep)
        return Outcome(change.product, change.revision, change)

    async def _commit(self, work: Work, mutation: Mutation[Outcome, R]) -> Answer[R]:
        made: list[Outcome] = []

        def committed(outcome: Outcome) -> None:
            made.append(outcome)
            if outcome.change is not None:
                self._changed(outcome.change)

        reply = await mutation.commit(work, committed)
        if made:
            return Answer(reply, Position(made[0].revision), made[0].change)
        return Answer(reply, Position(await self._changes.latest()))  # it was done before, not later than now
