"""A message is handled once, however often it is delivered."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from shop_services.messaging.inbox import KEPT, AlreadyHandled, Inbox, inbox_table
from shop_services.storage import Database, make_metadata
from tests.contract.messaging_storage.box import FlakyDatabase, inbox_rows
from tests.contract.messaging_storage.conftest import Clock

effects = sa.Table("effects", make_metadata(), sa.Column("name", sa.String(50)))


@pytest.fixture
async def inbox(database: FlakyDatabase, clock: Clock) -> Inbox:
    """An empty inbox, beside a table of effects."""
    async with database.transaction() as connection:
        await connection.run_sync(effects.metadata.create_all)
    return Inbox(database, inbox_rows, clock)


async def _handle(database: Database, inbox: Inbox, message_id: str, effect: str = "done") -> None:
    async def work(connection: AsyncConnection) -> None:
        await inbox.claim(connection, message_id)
        await asyncio.sleep(0.01)
        await connection.execute(effects.insert().values(name=effect))

    await database.atomically(work)


async def _effects(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(effects.c.name))).scalars())


async def test_a_message_is_handled_once(database: FlakyDatabase, inbox: Inbox) -> None:
    """The second delivery raises and has no effect; other messages are other messages."""
    await _handle(database, inbox, "m1")
    with pytest.raises(AlreadyHandled, match="m1"):
        await _handle(database, inbox, "m1", "again")
    await _handle(database, inbox, "m2", "other")
    assert await _effects(database) == ["done", "other"]


async def test_deliveries_at_the_same_time_have_one_effect(
    database: FlakyDatabase, database_url: str, inbox: Inbox, clock: Clock
) -> None:
    """In several processes at once, all but one find it handled, and none fails otherwise."""
    async with Database(database_url, service="other") as other, asyncio.timeout(20):
        elsewhere = Inbox(other, inbox_rows, clock)
        attempts = [(database, inbox), (other, elsewhere)] * 5
        ends = await asyncio.gather(*(_handle(*attempt, "m1") for attempt in attempts), return_exceptions=True)
    assert Counter(map(type, ends)) == {AlreadyHandled: 9, type(None): 1}
    assert await _effects(database) == ["done"]


async def test_a_failed_handler_leaves_no_claim(database: FlakyDatabase, inbox: Inbox) -> None:
    """The next delivery is handled."""

    async def failing(connection: AsyncConnection) -> None:
        await inbox.claim(connection, "m1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.atomically(failing)
    await _handle(database, inbox, "m1")
    assert await _effects(database) == ["done"]


async def test_a_message_without_an_id_is_refused(database: FlakyDatabase, inbox: Inbox) -> None:
    """All of them would be the same message."""
    with pytest.raises(ValueError, match="without an id"):
        await _handle(database, inbox, "")


async def test_ids_are_kept_for_a_week(database: FlakyDatabase, inbox: Inbox, clock: Clock) -> None:
    """A sweep deletes what is older, and only that."""
    await _handle(database, inbox, "old")
    clock.pass_seconds(KEPT.total_seconds() - 1)
    await _handle(database, inbox, "new")
    assert await inbox.sweep() == 0
    clock.pass_seconds(2)
    assert await inbox.sweep() == 1
    await _handle(database, inbox, "old")
    with pytest.raises(AlreadyHandled):
        await _handle(database, inbox, "new")


class Watched(Inbox):
    """Tells of each sweep that has ended, however it did."""

    def __init__(self, database: Database, table: sa.Table, clock: Clock) -> None:
        super().__init__(database, table, clock)
        self.swept = asyncio.Event()

    async def sweep(self) -> int:
        try:
            return await super().sweep()
        finally:
            self.swept.set()


async def test_sweeping_goes_on_by_itself_and_ends_with_its_block(
    database: FlakyDatabase, inbox: Inbox, clock: Clock
) -> None:
    """The task sweeps when the block begins, and is gone after it."""
    await _handle(database, inbox, "old")
    clock.pass_seconds(KEPT.total_seconds() * 2)
    watched = Watched(database, inbox_rows, clock)
    async with watched.sweeping():
        await asyncio.wait_for(watched.swept.wait(), 30)
    await _handle(database, inbox, "old")
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("sweep")]


async def test_sweeping_survives_a_failure(database: FlakyDatabase, clock: Clock) -> None:
    """Without its table it logs, and tries again later."""
    watched = Watched(database, inbox_table(make_metadata(), "missing"), clock)
    with capture_logs() as entries:
        async with watched.sweeping():
            (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "sweep missing_inbox"]
            await asyncio.wait_for(watched.swept.wait(), 30)
            await asyncio.sleep(0)
            assert not task.done()
    assert [entry["event"] for entry in entries] == ["sweep_failed"]
