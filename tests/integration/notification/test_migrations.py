"""The tables that the migrations make are those that the statements use."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shop_services.notification.storage import metadata
from shop_services.notification.wiring import MIGRATIONS, SERVICE
from shop_services.runtime.settings import Settings
from shop_services.storage import Database, migrate


def _differences(connection: sa.Connection) -> list[object]:
    ours = {"include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("alembic_version")}
    return list(compare_metadata(MigrationContext.configure(connection, opts=ours), metadata))


async def test_the_migrations_make_what_the_code_expects(settings: Settings) -> None:
    """Tables, columns, indexes and constraints are the same, also after workers that start together."""
    url = settings.database(SERVICE)
    async with Database(url, service=SERVICE) as database, Database(url, service=SERVICE) as other:
        await asyncio.gather(*(migrate(one, SERVICE, MIGRATIONS) for one in (database, other)))
        async with database.engine.connect() as connection:
            assert await connection.run_sync(_differences) == []
