"""Migrations, applied when a service starts, by whichever instance is first.

Each service has its scripts in its own package and its own version table, so that services may share a database. All
scripts of a start run in one transaction under one lock: SQLite's for writers, an advisory one in PostgreSQL. Instances
that start together take turns; those after the first find nothing to do, and a script that fails leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.app import StartError
from shop_services.runtime.errors import Unavailable
from shop_services.storage.database import Database
from shop_services.storage.failures import refusal

_LOCK = 0x73686F70  # "shop"; advisory locks are numbers, of a database
_STATEMENT_TIMEOUT = 600.0  # a script may copy a large table, and wait for another instance that does
_ENVIRONMENT = Path(__file__).parent / "environment"

# alembic keeps the migration it runs in global variables, so two in one process take turns as well.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class MigrationError(StartError):
    """The database cannot be brought to the version that this code needs; it was left as it was."""


async def migrate(database: Database, service: str, scripts: Path) -> None:
    """Bring `service`'s tables to the newest version of the alembic scripts in the directory `scripts`.

    Raises:
        MigrationError: the database holds a version that `scripts` does not know, so it was made by newer code; or
            DATABASE_URL names no database that we may use.
        Unavailable: the database is away. As this is the first that a service asks of it, the variable is named.
    """

    async def work(connection: AsyncConnection) -> None:
        if connection.dialect.name == "postgresql":
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        await connection.run_sync(_upgrade, service, scripts)

    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        try:
            async with database.patient(_STATEMENT_TIMEOUT) as patient:
                await patient.atomically(work)
        except CommandError as error:
            raise MigrationError(f"cannot migrate the tables of {service}: {error}") from error
        except Unavailable as error:
            if (why := refusal(error)) is not None:
                raise MigrationError(f"DATABASE_URL: {why}") from error
            raise Unavailable(f"DATABASE_URL: {error.message}") from error


def _upgrade(connection: sa.Connection, service: str, scripts: Path) -> None:
    config = Config()
    config.set_main_option("script_location", _escaped(_ENVIRONMENT))
    config.set_main_option("version_locations", _escaped(scripts))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = f"alembic_version_{service}"
    command.upgrade(config, "head")


def run_scripts() -> None:
    """What alembic's `env.py` does: run the scripts in the transaction that `migrate` has begun."""
    given = context.config.attributes
    context.configure(connection=given["connection"], version_table=given["version_table"], transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")
