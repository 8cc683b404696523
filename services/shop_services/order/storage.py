"""The tables of orders, and the statements on them.

`orders` repeats the status and the version of the latest transition: lists are filtered by the one, and changes are
guarded by the other. Ids grow with time, so newest first is the primary key backwards. `due_time` is when the sweep
looks at an order; it is NULL where nothing is left to do.

An order is read by three statements that need no snapshot to agree: items never change, and of transitions there are
only ever more, so that the last of the statements decides which state of the order is seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.messaging.inbox import inbox_table
from shop_services.messaging.outbox import outbox_table
from shop_services.order.domain import KIND, Item, Order, Transition
from shop_services.order.saga import DUE, Command, Status
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
    sa.Column("payment_method", sa.String(64), nullable=False),
    sa.Column("owes_release", sa.Boolean, nullable=False),
    sa.Column("owes_refund", sa.Boolean, nullable=False),
    sa.Column("nudges", sa.Integer, nullable=False),
    sa.Column("due_time", UtcDateTime, nullable=True),
    sa.Index("ix_orders_due_time", "due_time"),
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
outbox = outbox_table(metadata, "order")
inbox = inbox_table(metadata, "order")

_OWED = {Command.RELEASE: orders.c.owes_release, Command.REFUND: orders.c.owes_refund}

# Statements that every message needs are made once: making one takes as long as running it.
_all = sa.select(orders.c.id, orders.c.user_id, orders.c.payment_method)
_one = _all.add_columns(*_OWED.values()).where(orders.c.id == sa.bindparam("order_id"))
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_items_of = sa.select(items).where(items.c.order_id.in_(_ids)).order_by(items.c.order_id, items.c.position)
_history_of = (
    sa.select(transitions)
    .where(transitions.c.order_id.in_(_ids))
    .order_by(transitions.c.order_id, transitions.c.version)
)
_move = orders.update().where(orders.c.id == sa.bindparam("moved"), orders.c.version == sa.bindparam("from_version"))
_insert_order, _insert_items, _insert_transition = orders.insert(), items.insert(), transitions.insert()


class RequestIdTakenError(Exception):
    """An order was recorded with this request id already; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """An order that the sweep must look at, as it was found."""

    order_id: str
    status: Status
    create_time: datetime
    due_time: datetime
    nudges: int
    owes: frozenset[Command]

    @property
    def commands(self) -> Collection[Command]:
        """What is due for it, always in the same order: that of a set is another one in each process."""
        return [DUE[self.status]] if self.status in DUE else [command for command in _OWED if command in self.owes]


async def insert(connection: AsyncConnection, order: Order, request_id: str, due: datetime) -> None:
    """Record a new order, with its items and its first transition. Raises `RequestIdTakenError`."""
    row = {
        "id": order.id,
        "request_id": request_id,
        "user_id": order.user_id,
        "status": order.status,
        "version": order.version,
        "payment_method": order.payment_method,
        "nudges": 0,
        "due_time": due,
        **_owing(()),
    }
    try:
        await connection.execute(_insert_order, row)
    except sa.exc.IntegrityError as error:
        if violated_constraint(error) == "uq_orders_request_id":
            raise RequestIdTakenError from None
        raise
    rows = [{"order_id": order.id, "position": i, **_values(item)} for i, item in enumerate(order.items)]
    await connection.execute(_insert_items, rows)
    await _insert_latest(connection, order)


async def update(
    connection: AsyncConnection, before: Order, after: Order, owes: Collection[Command], due: datetime | None
) -> None:
    """Write the transition from `before` to `after`. Raises `Contended` if the order is no longer as it was before."""
    new = {"status": after.status, "version": after.version, "nudges": 0, "due_time": due, **_owing(owes)}
    changed = await connection.execute(_move, {**new, "moved": before.id, "from_version": before.version})
    if changed.rowcount != 1:
        raise Contended(f"order {before.id!r} is being changed by others; try again")
    await _insert_latest(connection, after)


async def settle(connection: AsyncConnection, order_id: str, command: Command) -> None:
    """Write that an order no longer owes what `command` has done; if it owes nothing else, the sweep leaves it."""
    others = sa.or_(*(column for owed, column in _OWED.items() if owed is not command))
    left = sa.case((others, orders.c.due_time), else_=None)
    values = {_OWED[command].name: False, "nudges": 0, "due_time": left}
    await connection.execute(orders.update().where(orders.c.id == order_id).values(values))


async def overdue(connection: AsyncConnection, now: datetime, limit: int) -> list[Overdue]:
    """`limit` orders at most that the sweep must look at, the longest overdue first."""
    columns = (orders.c.id, orders.c.status, transitions.c.time, orders.c.due_time, orders.c.nudges, *_OWED.values())
    recorded = sa.and_(transitions.c.order_id == orders.c.id, transitions.c.version == 1)
    query = sa.select(*columns).join_from(orders, transitions, recorded)
    query = query.where(orders.c.due_time <= now).order_by(orders.c.due_time).limit(limit)
    return [
        Overdue(row.id, Status(row.status), row.time, row.due_time, row.nudges, _owes(row))
        for row in await connection.execute(query)
    ]


async def postpone(connection: AsyncConnection, found: Overdue, due: datetime) -> bool:
    """Write that the order was nudged, and when to look again. False if it is no longer as it was found."""
    same = orders.update().where(orders.c.id == found.order_id, orders.c.due_time == found.due_time)
    changed = await connection.execute(same.values(nudges=found.nudges + 1, due_time=due))
    return bool(changed.rowcount == 1)


async def leave(connection: AsyncConnection, order_ids: Collection[str], now: datetime, due: datetime) -> None:
    """Write when to look again at those of the orders that are overdue still."""
    same = orders.update().where(orders.c.id.in_(order_ids), orders.c.due_time <= now)
    await connection.execute(same.values(due_time=due))


async def get(connection: AsyncConnection, order_id: str) -> Order:
    """The order with that id. Raises `NotFound`."""
    order, _ = await get_owing(connection, order_id)
    return order


async def get_owing(connection: AsyncConnection, order_id: str) -> tuple[Order, frozenset[Command]]:
    """The same with what it still owes. Raises `NotFound`."""
    heads = (await connection.execute(_one, {"order_id": order_id})).all()
    if not heads:
        raise NotFound(KIND, order_id)
    [order] = await _complete(connection, heads)
    return order, _owes(heads[0])


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


async def _select(connection: AsyncConnection, query: sa.Select[Any]) -> list[Order]:
    return await _complete(connection, (await connection.execute(query)).all())


async def _complete(connection: AsyncConnection, heads: Sequence[sa.Row[Any]]) -> list[Order]:
    if not heads:
        return []
    ids = [head.id for head in heads]
    bought = {name: tuple(map(_item, rows)) for name, rows in await _grouped(connection, _items_of, ids)}
    history = {name: tuple(map(_transition, rows)) for name, rows in await _grouped(connection, _history_of, ids)}
    return [Order(head.id, head.user_id, head.payment_method, bought[head.id], history[head.id]) for head in heads]


async def _grouped(
    connection: AsyncConnection, query: sa.Select[Any], ids: Sequence[str]
) -> Iterator[tuple[str, Iterator[sa.Row[Any]]]]:
    return groupby(await connection.execute(query, {"ids": ids}), lambda row: str(row.order_id))


async def _insert_latest(connection: AsyncConnection, order: Order) -> None:
    latest = order.latest
    row = {"order_id": order.id, "version": latest.version, "status": latest.status}
    await connection.execute(_insert_transition, {**row, "reason": latest.reason, "time": latest.time})


def _owing(owes: Collection[Command]) -> dict[str, bool]:
    return {column.name: command in owes for command, column in _OWED.items()}


def _owes(row: sa.Row[Any]) -> frozenset[Command]:
    return frozenset(command for command, column in _OWED.items() if getattr(row, column.name))


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
