"""The statements on stock and reservations.

A step locks its order's reservation first, then the rows of its products by id. So two steps of one order take turns,
and two orders that want the same products wait for each other in one direction only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.product.domain import KIND
from shop_services.product.inventory_domain import Item, Move, Reservation, State, Stock
from shop_services.product.tables import reservation_items, reservations, stock
from shop_services.runtime.errors import NotFound
from shop_services.storage import Contended

# Statements that every order runs are built once: building one takes longer than to execute it.
_stock_of = (
    sa.select(stock)
    .where(stock.c.product_id.in_(sa.bindparam("products", expanding=True)))
    .order_by(stock.c.product_id)
    .with_for_update()
)
_reservation_of = sa.select(reservations).where(reservations.c.order_id == sa.bindparam("order")).with_for_update()
_reserved_for = (
    sa.select(reservation_items)
    .where(reservation_items.c.order_id == sa.bindparam("order"))
    .order_by(reservation_items.c.product_id)
)
_changed = reservations.update().where(reservations.c.order_id == sa.bindparam("order"))
_moved = (
    stock.update()
    .where(stock.c.product_id == sa.bindparam("product"))
    .values(
        available=stock.c.available + sa.bindparam("to_available"),
        reserved=stock.c.reserved + sa.bindparam("to_reserved"),
        committed=stock.c.committed + sa.bindparam("to_committed"),
    )
)


async def insert(connection: AsyncConnection, product_id: str, available: int) -> None:
    """Add the stock of a new product."""
    values = {"product_id": product_id, "available": available, "reserved": 0, "committed": 0, "listed": True}
    await connection.execute(stock.insert().values(values))


async def delist(connection: AsyncConnection, product_id: str) -> None:
    """Take a product off the sale. What is reserved of it can still be given back or sold."""
    await connection.execute(stock.update().where(stock.c.product_id == product_id).values(listed=False))


async def get(connection: AsyncConnection, product_id: str) -> Stock:
    """The stock of a product that is in the catalog. Raises `NotFound`."""
    row = (
        await connection.execute(sa.select(stock).where(stock.c.product_id == product_id, stock.c.listed))
    ).one_or_none()
    if row is None:
        raise NotFound(KIND, product_id)
    return _stock(row)


async def lock(connection: AsyncConnection, product_ids: Iterable[str]) -> dict[str, Stock]:
    """The stock of those products, by id, which nobody else changes until the transaction ends."""
    rows = await connection.execute(_stock_of, {"products": list(product_ids)})
    return {row.product_id: _stock(row) for row in rows}


async def move(connection: AsyncConnection, items: Iterable[Item], move: Move) -> None:
    """Move items, whose products are locked, from one place to another. A check of the table refuses less than none."""
    available, reserved, committed = move.value
    await connection.execute(
        _moved,
        [
            {
                "product": item.product_id,
                "to_available": available * item.quantity,
                "to_reserved": reserved * item.quantity,
                "to_committed": committed * item.quantity,
            }
            for item in items
        ],
    )


async def set_available(connection: AsyncConnection, after: Stock) -> None:
    """Write how many are available of a product that is locked."""
    await connection.execute(
        stock.update().where(stock.c.product_id == after.product_id).values(available=after.available)
    )


async def lock_reservation(connection: AsyncConnection, order_id: str) -> Reservation | None:
    """The reservation of that order, which nobody else changes until the transaction ends; None if there is none."""
    row = (await connection.execute(_reservation_of, {"order": order_id})).one_or_none()
    if row is None:
        return None
    items = await connection.execute(_reserved_for, {"order": order_id})
    return Reservation(
        order_id=order_id,
        state=State(row.state),
        items=tuple(Item(item.product_id, item.quantity) for item in items),
        create_time=row.create_time,
        update_time=row.update_time,
    )


async def insert_reservation(connection: AsyncConnection, reservation: Reservation) -> None:
    """Add a reservation. Raises `Contended` if its order has got one meanwhile."""
    values = {
        "order_id": reservation.order_id,
        "state": reservation.state.value,
        "create_time": reservation.create_time,
        "update_time": reservation.update_time,
    }
    try:
        await connection.execute(reservations.insert(), values)
    except sa.exc.IntegrityError:  # its only constraint is the key
        raise Contended(f"the stock of order {reservation.order_id!r} is being changed by another call") from None
    if reservation.items:
        order = {"order_id": reservation.order_id}
        items = [{**order, "product_id": item.product_id, "quantity": item.quantity} for item in reservation.items]
        await connection.execute(reservation_items.insert(), items)


async def update_reservation(connection: AsyncConnection, reservation: Reservation) -> None:
    """Write the state of a reservation that is locked."""
    values = {"order": reservation.order_id, "state": reservation.state.value, "update_time": reservation.update_time}
    await connection.execute(_changed, values)


def _stock(row: sa.Row[Any]) -> Stock:
    return Stock(
        product_id=row.product_id,
        available=row.available,
        reserved=row.reserved,
        committed=row.committed,
        listed=row.listed,
    )
