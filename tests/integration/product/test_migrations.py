"""The tables that the migrations make, and what happens when instances start together."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shop_services.product import storage
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


async def test_a_catalog_from_before_caches_gets_a_name_and_loses_nothing(
    database_url: str, tmp_path: Path, start: Start
) -> None:
    """Its changes stay; each catalog has a random name; where an update came from is unknown, and taken as such."""
    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(MIGRATIONS / "v0001_products.py", first)
    row = "'n', '', 'new', 'EUR', 1, '2026-01-01 00:00:00', '2026-01-01 00:00:00', 1"
    change = f"VALUES ('UPDATED', 'p', 's', 1, 1, {row})"
    columns = "name, description, category, currency, price_hundredths, create_time, update_time, position"
    async with Database(database_url, service=NAME) as database:
        await migrate(database, NAME, first)
        async with database.transaction() as connection:
            for statement in (
                f"INSERT INTO products (id, sku, revision, {columns}) VALUES ('p', 's', 1, {row})",  # noqa: S608 - ours
                f"INSERT INTO product_changes (type, product_id, sku, revision, product_revision, {columns}) {change}",
                "UPDATE catalog SET revision = 1",
            ):
                await connection.execute(sa.text(statement))
        shop = await start()
        look = await storage.Changes(database).touched(0, 10)
        async with database.reading() as connection:
            name = await storage.incarnation(connection)
    assert (look.revision, [touched.categories for touched in look.found]) == (1, [None])
    assert len(name) == 16
    assert [product.id for product in (await shop.list("new")).products] == ["p"]


async def test_instances_that_start_together_share_one_catalog(start: Start) -> None:
    """Four instances that start at once on an empty database all serve, and number changes from one row."""
    shops = await asyncio.gather(*(start() for _ in range(4)))
    for i, shop in enumerate(shops):
        await shop.create(f"P-{i}")
    assert [product.sku for product in (await shops[0].list()).products] == ["P-0", "P-1", "P-2", "P-3"]
