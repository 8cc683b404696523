"""The tables of orders, and the statements on them.

`orders` repeats the status and the version of the latest transition: lists are filtered by the one, and changes are
guarded by the other. Ids grow with time, so newest first is the primary key backwards.

An order is read by three statements that need no snapshot to agree: items never change, and of transitions there are
only ever more, so that the last of the statements decides which state of the order is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.order.domain import KIND, Item, Order, Status, Transition
from shop_services.runtime.errors import NotFound
from shop_services.runtime.money import Money
from shop_services.storage import Contended, Database, UtcDateTime, make_metadata, replies_table, violated_constraint

metadata = make_metadata()

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("request_id", sa.String(64), nullable=False, unique=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("ix_orders_user_id_id", "user_id", "id"),
    sa.Index("ix_orders_status_id", "status", "id"),
)
items = sa.Table(
    "order_items",
    metadata,
    sa.Column("order_id", sa.String(64), sa.ForeignKey("orders.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("product_id", sa.String(64), nullable=False),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("product_name", sa.String(200), nullable=False),
    sa.Column("unit_currency", sa.String(3), nullable=False),
    sa.Column("unit_hundredths", sa.BigInteger, nullable=False),
)
transitions = sa.Table(
    "order_transitions",
    metadata,
    sa.Column("order_id", sa.String(64), sa.ForeignKey("orders.id"), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time", UtcDateTime, nullable=False),
)
replies = replies_table(metadata, "order")


class RequestIdTakenError(Exception):
    """An order was recorded with this request id already; nothing was changed."""


async def insert(connection: AsyncConnection, order: Order, request_id: str) -> None:
    """Record a new order, with its items and its first transition. Raises `RequestIdTakenError`."""
    row = {"id": order.id, "request_id": request_id, "user_id": order.user_id}
    try:
        await connection.execute(orders.insert().values(**row, status=order.status, version=order.version))
    except sa.exc.IntegrityError as error:
        if violated_constraint(error) == "uq_orders_request_id":
            raise RequestIdTakenError from None
        raise
    rows = [{"order_id": order.id, "position": i, **_values(item)} for i, item in enumerate(order.items)]
    await connection.execute(items.insert(), rows)
    await _insert_latest(connection, order)


async def update(connection: AsyncConnection, before: Order, after: Order) -> None:
    """Write the transition from `before` to `after`. Raises `Contended` if the order is no longer as it was before."""
    same = orders.update().where(orders.c.id == before.id, orders.c.version == before.version)
    changed = await connection.execute(same.values(status=after.status, version=after.version))
    if changed.rowcount != 1:
        raise Contended(f"order {before.id!r} is being changed by others; try again")
    await _insert_latest(connection, after)


async def get(connection: AsyncConnection, order_id: str) -> Order:
    """The order with that id. Raises `NotFound`."""
    found = await _select(connection, _all.where(orders.c.id == order_id))
    if not found:
        raise NotFound(KIND, order_id)
    return found[0]


async def find_request(connection: AsyncConnection, request_id: str) -> Order | None:
    """The order that was recorded with that request id."""
    found = await _select(connection, _all.where(orders.c.request_id == request_id))
    return found[0] if found else None


async def page(
    connection: AsyncConnection, user_id: str, status: Status | None, before: str | None, limit: int
) -> list[Order]:
    """`limit` orders at most, newest first, of the user and status if given, older than the one with id `before`."""
    query = _all.order_by(orders.c.id.desc()).limit(limit)
    if user_id:
        query = query.where(orders.c.user_id == user_id)
    if status is not None:
        query = query.where(orders.c.status == status)
    if before is not None:
        query = query.where(orders.c.id < before)
    return await _select(connection, query)


class ChangedOrders:
    """Where watchers look for what changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newer(self, versions: Mapping[str, int]) -> Sequence[Order]:
        """Those of the orders in `versions` that have a greater version by now. One query, if there are none."""
        query = sa.select(orders.c.id, orders.c.version).where(orders.c.id.in_(versions))
        async with self._database.reading() as connection:
            changed = [row.id for row in await connection.execute(query) if row.version > versions[row.id]]
        if not changed:
            return []
        async with self._database.reading() as connection:
            return await _select(connection, _all.where(orders.c.id.in_(changed)))


_all = sa.select(orders.c.id, orders.c.user_id)


async def _select(connection: AsyncConnection, query: sa.Select[Any]) -> list[Order]:
    heads = (await connection.execute(query)).all()
    if not heads:
        return []
    ids = [head.id for head in heads]
    by_position = sa.select(items).where(items.c.order_id.in_(ids)).order_by(items.c.order_id, items.c.position)
    bought = {order_id: tuple(map(_item, rows)) for order_id, rows in await _grouped(connection, by_position)}
    by_version = sa.select(transitions).where(transitions.c.order_id.in_(ids))
    by_version = by_version.order_by(transitions.c.order_id, transitions.c.version)
    history = {order_id: tuple(map(_transition, rows)) for order_id, rows in await _grouped(connection, by_version)}
    return [Order(head.id, head.user_id, bought[head.id], history[head.id]) for head in heads]


async def _grouped(connection: AsyncConnection, query: sa.Select[Any]) -> Iterator[tuple[str, Iterator[sa.Row[Any]]]]:
    return groupby(await connection.execute(query), lambda row: str(row.order_id))


async def _insert_latest(connection: AsyncConnection, order: Order) -> None:
    latest = order.latest
    await connection.execute(
        transitions.insert().values(
            order_id=order.id,
            version=latest.version,
            status=latest.status,
            reason=latest.reason,
            time=latest.time,
        )
    )


def _values(item: Item) -> dict[str, Any]:
    return {
        "product_id": item.product_id,
        "quantity": item.quantity,
        "product_name": item.product_name,
        "unit_currency": item.unit_price.currency,
        "unit_hundredths": item.unit_price.hundredths,
    }


def _item(row: sa.Row[Any]) -> Item:
    return Item(row.product_id, row.quantity, row.product_name, Money(row.unit_currency, row.unit_hundredths))


def _transition(row: sa.Row[Any]) -> Transition:
    return Transition(row.version, Status(row.status), row.reason, row.time)
