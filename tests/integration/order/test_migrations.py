"""The tables that the migrations make are those that the statements use, and orders of older versions live on."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shop_services.order import storage
from shop_services.order.storage import metadata
from shop_services.order.wiring import MIGRATIONS
from shop_services.runtime.settings import Settings
from shop_services.storage import Database, migrate


def _differences(connection: sa.Connection) -> list[object]:
    ours = {"include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("alembic_version")}
    return list(compare_metadata(MigrationContext.configure(connection, opts=ours), metadata))


async def test_the_migrations_make_what_the_code_expects(settings: Settings) -> None:
    """Tables, columns, indexes and constraints are the same, also after instances that start together."""
    url = settings.database("order")
    async with Database(url, service="order") as database, Database(url, service="order") as other:
        await asyncio.gather(migrate(database, "order", MIGRATIONS), migrate(other, "order", MIGRATIONS))
        async with database.engine.connect() as connection:
            assert await connection.run_sync(_differences) == []


async def test_orders_that_were_recorded_before_the_saga_are_found_by_its_sweep(settings: Settings) -> None:
    """They are paid with the default card and due at once, if they have not ended; those that have owe nothing."""
    now = datetime.now(UTC)
    async with Database(settings.database("order"), service="order") as database:
        with TemporaryDirectory() as scripts:
            shutil.copy(MIGRATIONS / "v0001_orders.py", scripts)
            await migrate(database, "order", Path(scripts))
        async with database.transaction() as connection:
            for name, status in (("o1", "PENDING"), ("o2", "CANCELLED")):
                values = {"id": name, "request_id": name, "user_id": "ann", "status": status, "version": 1}
                await connection.execute(sa.insert(_columns("orders", values)).values(values))
                item = {"order_id": name, "position": 0, "product_id": "pen", "quantity": 1, "product_name": "Pen"}
                item |= {"unit_currency": "EUR", "unit_hundredths": 250}
                await connection.execute(sa.insert(_columns("order_items", item)).values(item))
                transition = {"order_id": name, "version": 1, "status": status, "reason": "", "time": now}
                await connection.execute(sa.insert(storage.transitions).values(transition))
        await migrate(database, "order", MIGRATIONS)
        async with database.reading() as connection:
            order, owes = await storage.get_owing(connection, "o1")
            assert (order.payment_method, order.status, owes) == ("pm_card_visa", "PENDING", frozenset())
            found = await storage.overdue(connection, datetime.now(UTC), 10)
            assert [(one.order_id, one.nudges) for one in found] == [("o1", 0)]


def _columns(table: str, values: dict[str, Any]) -> sa.TableClause:
    return sa.table(table, *map(sa.column, values))
