"""The statements on the catalog.

Changes are numbered from one row, which stays locked until its transaction ends. So the numbers have no gaps, and
whoever can see a change can see all with lower numbers. A sequence would give neither: transactions that draw from it
end in any order. All changes of the catalog take turns at that row, before they touch anything else; reads, and changes
of stock, never wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.product.domain import KIND, Change, ChangeType, Product
from shop_services.product.following import Look
from shop_services.product.recent import Touched
from shop_services.product.tables import catalog, product_changes, products
from shop_services.runtime.errors import AlreadyExists, NotFound
from shop_services.runtime.money import Money
from shop_services.storage import Database, violated_constraint


async def next_revision(connection: AsyncConnection) -> int:
    """The number of the change that this transaction is about to make. Nobody else makes one until it ends."""
    return await _revision(connection, sa.select(catalog.c.revision).with_for_update()) + 1


async def insert(connection: AsyncConnection, product: Product) -> None:
    """Add `product`. Raises `AlreadyExists` if its SKU is taken."""
    try:
        await connection.execute(products.insert().values(id=product.id, revision=product.revision, **_values(product)))
    except sa.exc.IntegrityError as error:
        if violated_constraint(error) == "uq_products_sku":
            raise AlreadyExists(KIND, "sku", product.sku) from None
        raise


async def update(connection: AsyncConnection, product: Product) -> None:
    """Write all of `product` over what is stored under its id."""
    written = products.update().where(products.c.id == product.id)
    await connection.execute(written.values(revision=product.revision, **_values(product)))


async def delete(connection: AsyncConnection, product_id: str) -> None:
    """Remove the product with that id."""
    await connection.execute(products.delete().where(products.c.id == product_id))


async def record(connection: AsyncConnection, change: Change, keep: int) -> None:
    """Write down a change, whose number is the `next_revision`; of all changes, the latest `keep` are kept."""
    product, revision = change.product, change.revision
    await connection.execute(catalog.update().values(revision=revision))
    await connection.execute(
        product_changes.insert().values(
            revision=revision,
            type=change.type.value,
            product_id=product.id,
            product_revision=product.revision,
            previous_category=change.previous_category,
            **_values(product),
        )
    )
    await connection.execute(product_changes.delete().where(product_changes.c.revision <= revision - keep))


async def get(connection: AsyncConnection, product_id: str) -> Product:
    """The product with that id. Raises `NotFound`."""
    found = await get_many(connection, [product_id])
    if product_id not in found:
        raise NotFound(KIND, product_id)
    return found[product_id]


async def get_many(connection: AsyncConnection, product_ids: Collection[str]) -> dict[str, Product]:
    """The products with those ids, by id; ids that no product has are left out."""
    rows = await connection.execute(sa.select(products).where(products.c.id.in_(product_ids)))
    return {row.id: _product(row, row.id, row.revision) for row in rows}


async def read_many(connection: AsyncConnection, product_ids: Collection[str]) -> tuple[int, dict[str, Product]]:
    """The same, with the number of the latest change, of one moment: a single statement sees one state."""
    return await _read(connection, _BY_ID, {"ids": list(product_ids)})


async def read_page(
    connection: AsyncConnection, category: str, after: int, limit: int
) -> tuple[int, Collection[Product]]:
    """`limit` products at most, oldest first, with positions after `after`; of one category, or all if it is empty.

    With the number of the latest change, of one moment.
    """
    if not category:
        revision, found = await _read(connection, _PAGE, {"after": after, "limit": limit})
    else:
        values = {"category": category, "after": after, "limit": limit}
        revision, found = await _read(connection, _PAGE_OF_CATEGORY, values)
    return revision, found.values()


async def incarnation(connection: AsyncConnection) -> str:
    """The random name of this catalog."""
    name: str = (await connection.execute(sa.select(catalog.c.incarnation))).scalar_one()
    return name


class Changes:
    """The log of changes: the `ChangeLog` that a `ChangeFeed` reads, and the `TouchedLog` that a `Follower` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest(self) -> int:
        """The number of the latest change; 0 if there was none yet."""
        async with self._database.reading() as connection:
            return await _revision(connection, sa.select(catalog.c.revision))

    async def after(self, revision: int, limit: int) -> Sequence[Change]:
        """The first `limit` changes of those after `revision` that are kept, in order."""
        log = product_changes
        query = sa.select(log).where(log.c.revision > revision).order_by(log.c.revision).limit(limit)
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
        return [
            Change(
                row.revision,
                ChangeType(row.type),
                _product(row, row.product_id, row.product_revision),
                row.previous_category,
            )
            for row in rows
        ]

    async def touched(self, after: int, limit: int) -> Look:
        """What the first `limit` changes touched of those after `after` that are kept, and the latest change's number:
        of one moment, so if there are no more in between, these are all."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_TOUCHED, {"after": after, "limit": limit})).all()
        return Look(
            rows[0].as_of,
            [
                Touched.of(row.revision, ChangeType(row.type), row.product_id, row.category, row.previous_category)
                for row in rows
                if row.revision is not None
            ],
        )


def _as_of(found: sa.Select[Any], order: str) -> sa.Select[Any]:
    """What `found` selects, in the order of one of its columns, beside the number of the latest change as `as_of`.

    There is one row at least, with nulls in all else if nothing is found: the catalog's own.
    """
    rows = found.subquery("found")
    both = catalog.outerjoin(rows, sa.true())
    return sa.select(catalog.c.revision.label("as_of"), *rows.c).select_from(both).order_by(rows.c[order])


def _pages(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    page = sa.select(products).where(products.c.position > sa.bindparam("after"), *conditions)
    return _as_of(page.order_by(products.c.position).limit(sa.bindparam("limit")), "position")


_BY_ID = _as_of(sa.select(products).where(products.c.id.in_(sa.bindparam("ids", expanding=True))), "position")
_PAGE = _pages()
_PAGE_OF_CATEGORY = _pages(products.c.category == sa.bindparam("category"))
_KEYS = tuple(product_changes.c[name] for name in ("revision", "type", "product_id", "category", "previous_category"))
_TOUCHED = _as_of(
    sa.select(*_KEYS)
    .where(product_changes.c.revision > sa.bindparam("after"))
    .order_by(product_changes.c.revision)
    .limit(sa.bindparam("limit")),
    "revision",
)


async def _read(
    connection: AsyncConnection, statement: sa.Select[Any], values: dict[str, Any]
) -> tuple[int, dict[str, Product]]:
    rows = (await connection.execute(statement, values)).all()
    return rows[0].as_of, {row.id: _product(row, row.id, row.revision) for row in rows if row.id is not None}


async def _revision(connection: AsyncConnection, query: sa.Select[int]) -> int:
    return (await connection.execute(query)).scalar_one()


def _values(product: Product) -> dict[str, Any]:
    return {
        "sku": product.sku,
        "name": product.name,
        "description": product.description,
        "category": product.category,
        "currency": product.price.currency,
        "price_hundredths": product.price.hundredths,
        "create_time": product.create_time,
        "update_time": product.update_time,
        "position": product.position,
    }


def _product(row: sa.Row[Any], product_id: str, revision: int) -> Product:
    return Product(
        id=product_id,
        sku=row.sku,
        name=row.name,
        description=row.description,
        category=row.category,
        price=Money(row.currency, row.price_hundredths),
        create_time=row.create_time,
        update_time=row.update_time,
        position=row.position,
        revision=revision,
    )
