"""What the modules tell the writers of migrations to write makes the tables that the statements use."""

from __future__ import annotations

import textwrap
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from shop_services.messaging import inbox, outbox
from shop_services.storage import Database, UtcDateTime, make_metadata


@pytest.mark.parametrize("module", [inbox, outbox])
async def test_the_text_makes_the_table(database_url: str, module: ModuleType) -> None:
    """The example in the module's docstring, run as a migration, leaves no difference."""
    metadata = make_metadata()
    outbox.outbox_table(metadata, "order") if module is outbox else inbox.inbox_table(metadata, "order")
    text = textwrap.dedent((module.__doc__ or "").split("::\n", 1)[1])

    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection)
        exec(text, {"op": Operations(context), "sa": sa, "UtcDateTime": UtcDateTime})  # noqa: S102
        return list(compare_metadata(context, metadata))

    async with Database(database_url, service="order") as database, database.transaction() as connection:
        assert await connection.run_sync(differences) == []
