"""A catalog with many products in a real database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from shop_services.product import tables
from shop_services.product.wiring import MIGRATIONS, NAME
from shop_services.runtime.settings import Settings
from shop_services.storage import Database, migrate

CATEGORIES = 100
_AT_A_TIME = 1_000


@contextlib.asynccontextmanager
async def stocked(settings: Settings, count: int, rng: Random) -> AsyncIterator[tuple[Database, Sequence[str]]]:
    """The product service's database with `count` products in it, and their ids, in no order."""
    async with Database(settings.database(NAME), service=NAME, pool=settings.database_pool) as database:
        await migrate(database, NAME, MIGRATIONS)
        rows = [_row(position, rng) for position in range(1, count + 1)]
        async with database.transaction() as connection:
            for start in range(0, count, _AT_A_TIME):
                await connection.execute(tables.products.insert(), rows[start : start + _AT_A_TIME])
            await connection.execute(tables.catalog.update().values(revision=count))
        ids = [row["id"] for row in rows]
        rng.shuffle(ids)
        yield database, ids


def _row(position: int, rng: Random) -> Mapping[str, Any]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "id": f"{rng.getrandbits(128):032x}",
        "sku": f"BENCH-{position:06}",
        "name": f"Number {position}, in a box",
        "description": "One of very many things that differ in their number and in little else: " + "x" * 40,
        "category": f"category-{rng.randrange(CATEGORIES)}",
        "currency": "EUR",
        "price_hundredths": rng.randrange(100, 10_000),
        "create_time": now,
        "update_time": now,
        "position": position,
        "revision": position,
    }
