"""Engines: how each database is spoken to, so that nothing else needs a word about which it is.

Three kinds of unit run on an engine: a transaction that may write, a snapshot that reads several times from one state,
and plain reading, where each statement stands alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from shop_services.runtime.settings import SettingError
from shop_services.runtime.tls import ClientTls
from shop_services.storage.sqlite import creator

UNIT = "shop_unit"
TRANSACTION, SNAPSHOT, READING = "transaction", "snapshot", "reading"

WAIT = 5.0
"""Seconds to wait for a lock of SQLite's, for a connection to PostgreSQL, and for one of the pool."""
STATEMENT_TIMEOUT = 10.0
"""Seconds that a statement may take in PostgreSQL."""
_IDLE_TIMEOUT = 60.0

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def make_engine(
    url: str,
    *,
    service: str,
    pool: int,
    statement_timeout: float = STATEMENT_TIMEOUT,
    tls: ClientTls | None = None,
) -> AsyncEngine:
    """An engine for `url` with `pool` connections at most. Values of statements stay out of its errors and logs.

    With `tls` PostgreSQL must show a certificate for the host that the URL names, whatever `sslmode` there is.

    Raises:
        SettingError: the URL cannot be used.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise SettingError("DATABASE_URL", "cannot be parsed; percent-encode what is special in a password") from None
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    bounds: dict[str, Any] = {"pool_size": pool, "max_overflow": 0, "pool_timeout": WAIT, "hide_parameters": True}
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, bounds)
    return _postgresql(parsed, service, bounds, statement_timeout, tls)


def units(engine: AsyncEngine) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
    """The engine as it is used for transactions, for snapshots and for reading; they share its pool."""
    if engine.dialect.name == "sqlite":
        # Not SQLAlchemy's isolation_level: resetting that would turn on the driver's own, late BEGIN.
        return engine, engine.execution_options(**{UNIT: SNAPSHOT}), engine.execution_options(**{UNIT: READING})
    return (
        engine,
        engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True),
        engine.execution_options(isolation_level="AUTOCOMMIT"),  # a round trip, not three
    )


def _sqlite(url: sa.URL, bounds: dict[str, Any]) -> AsyncEngine:
    if url.database in (None, "", ":memory:"):
        raise SettingError("DATABASE_URL", "must name a file: a database in memory cannot be shared")
    directory = Path(url.database or "").parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError("DATABASE_URL", f"cannot make the directory {directory}: {error.strerror}") from None
    engine = create_async_engine(url, async_creator=creator(url, timeout=WAIT), **bounds)

    @sa.event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        cursor = connection.cursor()
        for pragma in (f"busy_timeout = {int(WAIT * 1000)}", "journal_mode = WAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        unit = connection.get_execution_options().get(UNIT, TRANSACTION)
        if unit != READING:
            # A deferred transaction that reads first and writes later fails at once if another wrote in between.
            connection.exec_driver_sql("BEGIN" if unit == SNAPSHOT else "BEGIN IMMEDIATE")

    return engine


def _postgresql(
    url: sa.URL, service: str, bounds: dict[str, Any], statement_timeout: float, tls: ClientTls | None
) -> AsyncEngine:
    query = dict(url.query)
    if (mode := query.pop("sslmode", "prefer")) not in _SSL_MODES or query:
        raise SettingError("DATABASE_URL", f"may have one parameter: sslmode, one of {', '.join(_SSL_MODES)}")
    server = {
        "application_name": f"shop-{service}",
        "statement_timeout": f"{int(statement_timeout * 1000)}",
        "idle_in_transaction_session_timeout": f"{int(_IDLE_TIMEOUT * 1000)}",
        "timezone": "UTC",
    }
    # The server ends a slow statement; the driver's own limit is for a server that says nothing any more.
    options = {"ssl": mode, "timeout": WAIT, "command_timeout": statement_timeout * 1.5, "server_settings": server}
    engine = create_async_engine(url.set(query={}), connect_args=options, **bounds)

    if tls is not None:

        @sa.event.listens_for(engine.sync_engine, "do_connect")
        def secure(_dialect: sa.Dialect, _record: ConnectionPoolEntry, _args: object, options: dict[str, Any]) -> None:
            options["ssl"] = tls.context()

    @sa.event.listens_for(engine.sync_engine, "checkout")
    def alive(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        # The driver has noticed if the server closed the connection, so a restart costs no ping for every checkout.
        driver = record.driver_connection
        if driver is not None and driver.is_closed():
            raise sa.exc.DisconnectionError

    return engine
