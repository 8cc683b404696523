"""Units of work: all or nothing, one after the other, and honest about outages."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.runtime.errors import NotFound, Unavailable
from shop_services.storage import Contended, Database, UtcDateTime, make_metadata, violated_constraint
from shop_services.storage.database import ATTEMPTS
from tests.servers import Postgres

metadata = make_metadata()
things = sa.Table(
    "things",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(20), unique=True),
    sa.Column("amount", sa.BigInteger, sa.CheckConstraint("amount >= 0", name="amount"), nullable=False, default=0),
    sa.Column("time", UtcDateTime),
)


@pytest.fixture(autouse=True)
async def _tables(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(things.insert().values(id=1, name="one", amount=0))


async def _count(database: Database) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(sa.select(things.c.amount).where(things.c.id == 1))).scalar_one())


async def _add_one(connection: AsyncConnection) -> None:
    await connection.execute(things.update().values(amount=things.c.amount + 1))


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    """What a block did is undone if it raises, and kept if it does not."""

    async def half(connection: AsyncConnection) -> None:
        await _add_one(connection)
        raise NotFound("thing", "2")

    with pytest.raises(NotFound):
        await database.atomically(half)
    assert await _count(database) == 0
    async with database.transaction() as connection:
        await _add_one(connection)
    assert await _count(database) == 1


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    """Cancelled in its middle, it is undone, and the database is as usable as before."""
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            await _add_one(connection)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.atomically(_add_one)
    assert await _count(database) == 1


async def test_cancelled_anywhere_a_transaction_is_done_or_not(database: Database) -> None:
    """Many transactions, cancelled at random moments, count exactly those that were not cancelled, or were too late."""
    rng = random.Random(7)

    async def one() -> None:
        await database.atomically(_add_one)

    tasks = [asyncio.create_task(one()) for _ in range(60)]
    for task in tasks:
        await asyncio.sleep(0)
        if rng.random() < 0.5:
            asyncio.get_running_loop().call_later(rng.random() * 0.05, task.cancel)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    kept = sum(end is None for end in ends)
    assert kept <= await _count(database) <= len(tasks)
    assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
    await asyncio.wait_for(one(), 30)


async def test_concurrent_increments_are_all_counted(database: Database) -> None:
    """Writers queue; none is lost, and none fails."""
    async with asyncio.timeout(20):
        await asyncio.gather(*(database.atomically(_add_one) for _ in range(100)))
    assert await _count(database) == 100


async def test_read_then_write_does_not_lose_updates(database: Database) -> None:
    """A row read with FOR UPDATE is nobody else's until the transaction ends."""

    async def read_then_write(connection: AsyncConnection) -> None:
        row = (await connection.execute(sa.select(things).where(things.c.id == 1).with_for_update())).one()
        await connection.execute(things.update().where(things.c.id == 1).values(amount=row.amount + 1))

    async with asyncio.timeout(20):
        await asyncio.gather(*(database.atomically(read_then_write) for _ in range(50)))
    assert await _count(database) == 50


async def test_writers_of_several_processes_take_turns(database: Database, database_url: str) -> None:
    """Another pool on the same database, as another process has it, waits for its turn."""
    async with Database(database_url, service="other") as other, asyncio.timeout(20):
        await asyncio.gather(*(one.atomically(_add_one) for one in (database, other) for _ in range(25)))
    assert await _count(database) == 50


async def test_a_snapshot_sees_one_state(database: Database, database_url: str) -> None:
    """What others commit meanwhile is not seen in it, and is seen after it."""

    async def count(connection: AsyncConnection) -> int:
        return int((await connection.execute(sa.select(things.c.amount))).scalar_one())

    async with database.snapshot() as connection:
        before = await count(connection)
        async with Database(database_url, service="other") as other:
            await other.atomically(_add_one)
        assert await count(connection) == before == 0
    async with database.reading() as connection:
        assert await count(connection) == 1


async def test_reading_sees_what_was_committed_last(database: Database) -> None:
    """Each statement stands alone, also within one block."""
    async with database.reading() as connection:
        query = sa.select(things.c.amount)
        assert (await connection.execute(query)).scalar_one() == 0
        await database.atomically(_add_one)
        assert (await connection.execute(query)).scalar_one() == 1


async def test_a_conflict_is_tried_again_from_the_beginning(database: Database) -> None:
    """Work that meets another is run again, five times at most, and then given up as contention."""
    runs = 0

    async def twice_unlucky(connection: AsyncConnection) -> int:
        nonlocal runs
        runs += 1
        await _add_one(connection)
        if runs < 3:
            raise Contended("met another")
        return runs

    assert await database.atomically(twice_unlucky) == 3
    assert await _count(database) == 1

    async def unlucky(connection: AsyncConnection) -> None:
        nonlocal runs
        runs += 1
        raise Contended("met another")

    runs = 0
    with pytest.raises(Contended):
        await database.atomically(unlucky)
    assert runs == ATTEMPTS


async def test_a_broken_constraint_is_told_by_its_name(database: Database) -> None:
    """Unique and check constraints have the same names on every database."""
    for values, name in (({"id": 2, "name": "one"}, "uq_things_name"), ({"id": 3, "amount": -1}, "ck_things_amount")):
        with pytest.raises(sa.exc.IntegrityError) as caught:
            async with database.transaction() as connection:
                await connection.execute(things.insert().values(**values))
        assert violated_constraint(caught.value) == name


async def test_errors_do_not_show_values(database: Database) -> None:
    """SQLAlchemy's errors end up in logs; what was to be written does not."""
    with pytest.raises(sa.exc.IntegrityError) as caught:
        async with database.transaction() as connection:
            await connection.execute(things.insert().values(id=1, name="swordfish", amount=5))
    assert "swordfish" not in str(caught.value)


async def test_times_come_back_as_they_were(database: Database) -> None:
    """To the microsecond, in UTC, and in the right order."""
    times = [datetime(2026, 1, 1, 12, 0, 0, micro, tzinfo=UTC) for micro in (999_999, 0, 1)]
    async with database.transaction() as connection:
        await connection.execute(things.insert(), [{"id": 10 + n, "time": time} for n, time in enumerate(times)])
    query = sa.select(things.c.time).where(things.c.time.is_not(None)).order_by(things.c.time)
    async with database.reading() as connection:
        assert list((await connection.execute(query)).scalars()) == sorted(times)
        later = sa.select(sa.func.count()).where(things.c.time > times[1])
        assert (await connection.execute(later)).scalar_one() == 2


async def test_waiting_for_a_turn_has_an_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody leaves, the next is told that the database is not available, in time."""
    database._writer = asyncio.Semaphore(1)
    async with database.transaction():
        with monkeypatch.context() as patch:
            patch.setattr("shop_services.storage.database.WAIT", 0.05)
            with pytest.raises(Unavailable):
                await database.atomically(_add_one)
    await database.atomically(_add_one)


async def test_a_restarted_postgresql_costs_no_call(postgres: Postgres, postgres_url: str) -> None:
    """Connections that the server closed are replaced when they are next used."""
    async with Database(postgres_url, service="test") as database:
        async with database.reading() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        closed = asyncio.Event()
        driver.add_termination_listener(lambda _: closed.set())
        async with Database(postgres_url, service="operator") as operator, operator.reading() as connection:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shop-test'"
            await connection.execute(sa.text(end))
        await asyncio.wait_for(closed.wait(), 30)
        for _ in range(3):
            async with database.reading() as connection:
                assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1


async def test_a_database_that_is_away_is_unavailable(database_url: str) -> None:
    """A server that does not answer, a database that does not exist, and a file that is a directory: all the same."""
    wrong = "postgresql://shop@127.0.0.1:1/x" if "postgresql" in database_url else "sqlite:////proc"
    async with Database(wrong, service="test") as database:
        with pytest.raises(Unavailable):
            await database.atomically(_add_one)
    if "postgresql" in database_url:
        async with Database(f"{database_url}_none", service="test") as database:
            with pytest.raises(Unavailable):
                await database.atomically(_add_one)


async def test_a_statement_that_takes_too_long_is_ended(postgres_url: str) -> None:
    """PostgreSQL ends it, and the caller is told that the database is not available."""
    async with Database(postgres_url, service="test", statement_timeout=0.05) as database:
        with pytest.raises(Unavailable):
            async with database.reading() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(5)"))
