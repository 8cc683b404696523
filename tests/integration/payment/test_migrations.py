"""The tables that the migrations make, and what happens when instances start together."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shop_services.payment.tables import metadata
from shop_services.payment.wiring import MIGRATIONS, NAME
from shop_services.storage import Database, migrate
from tests.integration.payment.till import Start


async def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str) -> None:
    """Between what the scripts made and what the code describes, alembic finds no difference."""
    async with Database(database_url, service=NAME) as database:
        await migrate(database, NAME, MIGRATIONS)

        def differences(connection: sa.Connection) -> list[object]:
            options = {"compare_type": True, "version_table": f"alembic_version_{NAME}"}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []


async def test_instances_that_start_together_share_one_ledger(start: Start) -> None:
    """Four instances that start at once on an empty database all serve from the same tables."""
    tills = await asyncio.gather(*(start() for _ in range(4)))
    for i, till in enumerate(tills):
        await till.authorize(f"o{i}")
    assert [payment.key for payment in (await tills[0].list()).payments] == ["o0", "o1", "o2", "o3"]
