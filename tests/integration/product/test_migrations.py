"""The tables that the migrations make, and what happens when instances start together."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shop_services.product.tables import metadata
from shop_services.product.wiring import MIGRATIONS, NAME
from shop_services.storage import Database, migrate
from tests.integration.product.shop import Start


async def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str) -> None:
    """Between what the scripts made and what the code describes, alembic finds no difference."""
    async with Database(database_url, service=NAME) as database:
        await migrate(database, NAME, MIGRATIONS)

        def differences(connection: sa.Connection) -> list[object]:
            options = {"compare_type": True, "version_table": f"alembic_version_{NAME}"}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []


async def test_the_tables_have_the_checks_that_alembic_does_not_compare(database_url: str) -> None:
    """Less than no stock is refused by the table itself."""
    async with Database(database_url, service=NAME) as database:
        await migrate(database, NAME, MIGRATIONS)

        def checks(connection: sa.Connection) -> set[str | None]:
            return {check["name"] for check in sa.inspect(connection).get_check_constraints("stock")}

        async with database.engine.connect() as connection:
            assert "ck_stock_not_negative" in await connection.run_sync(checks)


async def test_instances_that_start_together_share_one_catalog(start: Start) -> None:
    """Four instances that start at once on an empty database all serve, and number changes from one row."""
    shops = await asyncio.gather(*(start() for _ in range(4)))
    for i, shop in enumerate(shops):
        await shop.create(f"P-{i}")
    assert [product.sku for product in (await shops[0].list()).products] == ["P-0", "P-1", "P-2", "P-3"]
