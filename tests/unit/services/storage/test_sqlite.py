"""Connections that make one trip to their thread for each statement do what aiosqlite's own do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shop_services.storage.engine import make_engine

TABLE = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size REAL, raw BLOB)"
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT count(*) FROM n"

STATEMENTS: list[tuple[str, Any]] = [
    ("INSERT INTO things VALUES (:id, :name, :size, :raw)", {"id": 1, "name": "å", "size": 1.5, "raw": b"\x00\xff"}),
    ("INSERT INTO things (id, name) VALUES (:id, :name)", [{"id": number, "name": f"n{number}"} for number in (2, 3)]),
    ("SELECT id, name, size, raw FROM things ORDER BY id", {}),
    ("SELECT id FROM things WHERE id > :least", {"least": 99}),
    ("UPDATE things SET size = size + 1 WHERE size IS NOT NULL", {}),
    ("UPDATE things SET name = :name WHERE id = :id", [{"id": 2, "name": "two"}, {"id": 99, "name": "none"}]),
    ("INSERT INTO things (name) VALUES (:name) RETURNING id, name", {"name": "four"}),
    ("DELETE FROM things WHERE id IN (1, 2)", {}),
    ("PRAGMA user_version", {}),
]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """One whose only connection is ours."""
    engine = make_engine(f"sqlite:///{tmp_path}/one.db", service="test", pool=1)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(TABLE)
    yield engine
    await engine.dispose()


async def seen(connection: AsyncConnection, statement: str, parameters: Any) -> tuple[Any, ...]:
    """All that a caller can see of a statement."""
    result = await connection.execute(sa.text(statement), parameters)
    rows = [tuple(row) for row in result] if result.returns_rows else None
    keys = tuple(result.keys()) if result.returns_rows else None
    return rows, keys, result.rowcount


async def test_statements_look_as_with_the_stock_cursor(engine: AsyncEngine, tmp_path: Path) -> None:
    """Rows, columns and counts of every kind of statement are those that aiosqlite's own cursor gives."""
    stock = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/stock.db")
    async with stock.begin() as theirs, engine.begin() as ours:
        await theirs.exec_driver_sql(TABLE)
        for statement, parameters in STATEMENTS:
            assert await seen(ours, statement, parameters) == await seen(theirs, statement, parameters), statement
    await stock.dispose()


async def test_a_statement_takes_one_trip(engine: AsyncEngine) -> None:
    """To be made, executed, fetched and closed, a cursor goes to the connection's thread once."""
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await connection.exec_driver_sql("SELECT 1")  # begins the transaction
        trips = []
        to_thread = driver._tx.put_nowait

        class Counting:
            def put_nowait(self, item: object) -> None:
                trips.append(item)
                to_thread(item)

        before, driver._tx = driver._tx, Counting()
        assert (await connection.exec_driver_sql("SELECT 2")).scalar_one() == 2
        driver._tx = before
    assert len(trips) == 1


async def test_errors_keep_their_names(engine: AsyncEngine) -> None:
    """A broken constraint is SQLAlchemy's IntegrityError around SQLite's own error, and the transaction goes on."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("INSERT INTO things (id, name) VALUES (1, 'a')")
        with pytest.raises(sa.exc.IntegrityError, match=r"things\.name") as caught:
            await connection.exec_driver_sql("INSERT INTO things (id, name) VALUES (2, 'a')")
        assert getattr(caught.value.orig, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_UNIQUE"
        with pytest.raises(sa.exc.OperationalError, match="no such table"):
            await connection.exec_driver_sql("SELECT * FROM nowhere")
        assert (await connection.exec_driver_sql("SELECT count(*) FROM things")).scalar_one() == 1


async def test_large_results_arrive_whole(engine: AsyncEngine) -> None:
    """A hundred thousand rows are all there, in their order."""
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT i FROM n"
    async with engine.connect() as connection:
        rows = (await connection.exec_driver_sql(count)).scalars().all()
    assert rows == list(range(1, 100_001))


async def test_a_statement_that_is_cancelled_leaves_nothing_behind(engine: AsyncEngine) -> None:
    """Who is cancelled while a statement runs leaves no change, no lock and a pool that works."""
    running = asyncio.Event()

    async def changing() -> None:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("INSERT INTO things (id, name) VALUES (1, 'a')")
            running.set()
            await connection.exec_driver_sql(SLOW)

    task = asyncio.create_task(changing())
    await running.wait()
    task.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task
        async with engine.begin() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM things")).scalar_one() == 0
            await connection.exec_driver_sql("INSERT INTO things (id, name) VALUES (1, 'a')")


async def test_closing_ends_the_threads(tmp_path: Path) -> None:
    """Each connection has a thread, and none is left when the engine is disposed of."""
    before = set(threading.enumerate())
    engine = make_engine(f"sqlite:///{tmp_path}/one.db", service="test", pool=2)
    async with engine.connect() as one, engine.connect() as other:
        await one.exec_driver_sql("PRAGMA user_version")
        assert len(set(threading.enumerate()) - before) == 2
        await other.close()
    await engine.dispose()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
