"""What writes pending changes: when, how often, and what it does when something is away or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.compacted import MARKER_AGE
from shop_services.messaging.compacted_memory import MemoryRecords
from shop_services.product import inventory_storage
from shop_services.product.drainer import FOREIGN, LINGER, REFUSED
from shop_services.product.pending import Pending
from shop_services.runtime.errors import NotFound, Unavailable
from shop_services.storage import Database
from tests.unit.services.product.written_behind import Clock, Instance, catalog


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty catalog."""
    async with catalog(tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    """The time of the log and of all instances."""
    return Clock()


@pytest.fixture
async def instances(database: Database, clock: Clock) -> list[Instance]:
    """Three instances, which have read the log."""
    records = MemoryRecords(clock=clock)
    made = [Instance(database, records, seed) for seed in range(3)]
    for instance in made:
        await instance.follow()
    return made


async def _name(instance: Instance, product_id: str) -> str | None:
    row = await instance.row(product_id)
    return None if row is None else row.name


async def test_changes_of_a_moment_are_written_as_one(instances: list[Instance], clock: Clock) -> None:
    """An instance writes what it has put after a moment, and only the latest state of each product."""
    one = instances[0]
    pen, ink = await one.create("PEN"), await one.create("INK")
    for name in ("A", "B", "C"):
        await one.update(pen, name=name)
    clock.time += LINGER / 2
    await one.update(ink, name="I")
    assert one.drainer._due()[0] == []
    clock.time += LINGER
    assert await one.drain() == 2
    assert await one.logged() == [("CREATED", "The PEN"), ("CREATED", "The INK"), ("UPDATED", "C"), ("UPDATED", "I")]
    assert [change.product.name for change in one.changed[2:]] == ["C", "I"]
    assert len(one.overlay) == 0
    assert one.drainer._due()[0] == []


async def test_the_changes_of_another_instance_are_left_to_it_for_some_seconds(
    instances: list[Instance], clock: Clock
) -> None:
    """Then any other writes them: it may have died."""
    one, other, third = instances
    product_id = await one.create("PEN")
    await one.update(product_id, name="A")
    for instance in (other, third):
        await instance.follow()
    clock.time += FOREIGN * 0.99
    assert other.drainer._due()[0] == []
    clock.time += FOREIGN
    assert await other.drain() == 1
    assert await third.drain() == 1
    assert await one.drain() == 1
    assert await one.logged() == [("CREATED", "The PEN"), ("UPDATED", "A")]
    for instance in instances:
        await instance.follow()
        assert len(instance.overlay) == 0


async def test_others_learn_which_change_it_was(instances: list[Instance], clock: Clock) -> None:
    """The one who clears the record leaves the number of the change, and the categories that it touched."""
    one, other, _ = instances
    product_id = await one.create("PEN")
    await one.update(product_id, category="office")
    await other.follow()
    clock.time += LINGER
    await one.drain()
    await other.follow()
    [(settled, note)] = other.settled
    assert (settled, note.number, note.in_place) == (product_id, 2, True)
    assert note.categories == frozenset({"things", "office"})


async def test_a_deletion_takes_the_stock_off_the_sale(instances: list[Instance], clock: Clock) -> None:
    """In the same transaction; until then it can be had, and watchers are told of the product as they knew it."""
    one = instances[0]
    product_id = await one.create("PEN")
    await one.update(product_id, name="A", category="office")
    await one.delete(product_id)
    async with one.database.reading() as connection:
        assert (await inventory_storage.get(connection, product_id)).available == 3
    clock.time += LINGER
    await one.drain()
    async with one.database.reading() as connection:
        with pytest.raises(NotFound):
            await inventory_storage.get(connection, product_id)
    assert await one.logged() == [("CREATED", "The PEN"), ("DELETED", "The PEN")]


async def test_nothing_is_lost_while_the_database_is_away(
    instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing is tried again, the failure is logged once, and in the end everything is written in one transaction."""
    one = instances[0]
    ids = [await one.create(f"PEN-{number}") for number in range(5)]
    write, attempts = one.drainer._write, 0

    async def fail(states: Sequence[Pending]) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise Unavailable("the database is not available")
        return await write(states)

    monkeypatch.setattr(one.drainer, "_write", fail)
    one.overlay.clock = asyncio.get_running_loop().time  # from the first change on: it may begin long before the other
    for product_id in ids:
        await one.update(product_id, name="A")
    with capture_logs() as logs:
        async with asyncio.timeout(10), one.drainer.running():
            while len(one.overlay):
                await one.overlay.moved()
    assert [entry["event"] for entry in logs] == ["drainer_paused", "drainer_resumed"]
    assert [await _name(one, product_id) for product_id in ids] == ["A"] * 5


async def test_what_the_database_refuses_holds_up_no_other(
    instances: list[Instance], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, stays in the log, and is tried again later."""
    one = instances[0]
    bad, good = await one.create("PEN"), await one.create("INK")
    write, refuse = one.drainer._write, True

    async def refusing(states: Sequence[Pending]) -> Any:
        if refuse and any(state.product.id == bad for state in states):
            raise ValueError("a defect")
        return await write(states)

    monkeypatch.setattr(one.drainer, "_write", refusing)
    await one.update(bad, name="A")
    await one.update(good, name="A")
    clock.time += LINGER
    with capture_logs() as logs:
        await one.drainer._attempt(one.drainer._due()[0])
    assert [(entry["event"], entry["product"]) for entry in logs] == [("pending_change_refused", bad)]
    assert [await _name(one, bad), await _name(one, good)] == ["The PEN", "A"]
    assert one.drainer._due()[0] == []
    refuse = False
    clock.time += REFUSED
    assert await one.drain() == 1
    assert await _name(one, bad) == "A"


async def test_what_is_written_is_not_written_again_to_be_cleared(instances: list[Instance], clock: Clock) -> None:
    """The log is away when a record is to be cleared: its state is shown till then, and the database is left alone."""
    one = instances[0]
    product_id = await one.create("PEN")
    await one.update(product_id, name="A")
    clock.time += LINGER
    calm = one.log.interfere

    async def away(_when: Literal["ask", "answer"], _key: str) -> None:
        raise BusUnavailable("away")

    one.log.interfere = away
    assert await one.drain() == 1
    assert await _name(one, product_id) == "A"
    assert len(one.overlay) == 1
    assert one.drainer._due()[0] == []  # for a moment
    clock.time += 2
    [due] = one.drainer._due()[0]
    assert due.note is not None
    one.log.interfere = calm
    await one.database.close()
    await one.drain()
    assert len(one.overlay) == 0


async def test_what_the_log_lost_is_written_by_who_knows_it(instances: list[Instance], clock: Clock) -> None:
    """Every instance writes what it knew when the log was wiped. It takes effect once, and is shown till then."""
    one, other, _ = instances
    product_id = await one.create("PEN")
    await one.update(product_id, name="A")
    await other.follow()
    one.log.records.lose()
    for instance in (one, other):
        await instance.follow()  # it is told to start over
        await instance.follow()
        assert list(instance.overlay.orphans) == [product_id]
        shown = (await instance.reads.product(product_id)).value
        assert shown is not None
        assert shown.name == "A"
    for instance in (other, one):
        assert await instance.drain() == 1
        assert not instance.overlay.orphans
    assert await one.logged() == [("CREATED", "The PEN"), ("UPDATED", "A")]
    await one.update(product_id, name="B")
    clock.time += LINGER
    await one.drain()
    assert await _name(one, product_id) == "B"


async def test_a_record_that_vanished_was_written(instances: list[Instance], clock: Clock) -> None:
    """An instance that was away for so long that it did not even see the note does nothing a second time."""
    one, other, _ = instances
    product_id = await one.create("PEN")
    await one.update(product_id, name="A")
    await other.follow()
    clock.time += LINGER
    await one.drain()
    await one.update(product_id, name="B")
    clock.time += LINGER
    await one.drain()
    clock.time += MARKER_AGE + 1
    assert await other.drain() == 1  # what it still knows is overtaken
    assert len(other.overlay) == 0
    await other.drain()
    assert not other.overlay.orphans
    assert await one.logged() == [("CREATED", "The PEN"), ("UPDATED", "A"), ("UPDATED", "B")]
    assert await _name(one, product_id) == "B"


async def test_a_stop_writes_what_the_process_has_put(instances: list[Instance]) -> None:
    """And leaves what others have put to them."""
    one, other, _ = instances
    mine, theirs = await one.create("PEN"), await one.create("INK")
    await other.update(theirs, name="A")
    await one.follow()
    async with one.drainer.running():
        await one.update(mine, name="A")
    assert await _name(one, mine) == "A"
    assert await _name(one, theirs) == "The INK"
    assert [product_id for product_id, _ in one.overlay.active()] == [theirs]
