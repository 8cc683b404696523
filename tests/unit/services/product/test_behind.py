"""Changes that are kept in a log before they are written: what each begins from, and when it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.compacted import Superseded
from shop_services.messaging.compacted_memory import MemoryRecords
from shop_services.product import behind
from shop_services.product.position import Position
from shop_services.runtime.errors import Aborted, AlreadyExists, InvalidArgument, NotFound, Unavailable
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
def records(clock: Clock) -> MemoryRecords:
    """An empty log."""
    return MemoryRecords(clock=clock)


@pytest.fixture
async def one(database: Database, records: MemoryRecords) -> Instance:
    """An instance that has read the log."""
    instance = Instance(database, records, 1)
    await instance.follow()
    return instance


@pytest.fixture
async def other(database: Database, records: MemoryRecords) -> Instance:
    """Another."""
    instance = Instance(database, records, 2)
    await instance.follow()
    return instance


async def test_an_answer_comes_before_the_database_has_it(one: Instance) -> None:
    """The instance shows the new state, with the etag it answered; the database still has the old one."""
    product_id = await one.create("PEN")
    answer = await one.update(product_id, name="Quill")
    shown = await one.reads.product(product_id)
    assert shown.value is not None
    assert shown.value.name == answer.reply.product.name == "Quill"
    row = await one.row(product_id)
    assert row is not None
    assert row.name == "The PEN"
    assert answer.position == Position(pending=one.overlay.entry(product_id).sequence)  # type: ignore[union-attr]


async def test_an_etag_is_good_for_the_next_change_at_any_instance(one: Instance, other: Instance) -> None:
    """Also where the instance has not heard of the state yet; and it is good for one change, written or not."""
    product_id = await one.create("PEN")
    first = (await one.update(product_id, name="A")).reply.product.etag
    second = (await other.update(product_id, etag=first, name="B")).reply.product.etag
    with pytest.raises(Aborted):
        await one.update(product_id, etag=first, name="C")
    await other.follow()
    assert await other.flush() == 1
    third = (await one.update(product_id, etag=second, name="D")).reply.product.etag
    assert len({first, second, third}) == 3
    with pytest.raises(Aborted):
        await other.delete(product_id, etag=second)
    await one.delete(product_id, etag=third)


async def test_a_deletion_holds_at_every_instance(one: Instance, other: Instance) -> None:
    """Nobody changes or shows the product again, before the deletion is written and after it."""
    product_id = await one.create("PEN")
    await one.delete(product_id)
    for instance in (one, other):
        with pytest.raises(NotFound):
            await instance.update(product_id, name="A")
        await instance.follow()
        assert (await instance.reads.product(product_id)).value is None
    await one.flush()
    assert await one.row(product_id) is None
    for instance in (one, other):
        await instance.follow()
        with pytest.raises(NotFound):
            await instance.delete(product_id)


async def test_a_request_is_done_once(one: Instance, other: Instance) -> None:
    """Its reply is found wherever it is: at this instance, in the log, in the database; and its id is its own."""
    product_id = await one.create("PEN")
    answer = await one.update(product_id, name="A", request_id="r1")
    await one.update(product_id, name="B")
    assert (await one.update(product_id, name="A", request_id="r1")).reply == answer.reply
    assert (await other.update(product_id, name="A", request_id="r1")).reply == answer.reply
    with pytest.raises(InvalidArgument, match="request_id"):
        await other.update(product_id, name="C", request_id="r1")
    await one.flush()
    third = Instance(one.database, one.log.records, 3)
    following = asyncio.create_task(_follow_for_ever(third))
    assert (await third.update(product_id, name="A", request_id="r1")).reply == answer.reply
    following.cancel()
    assert third.known == [2]  # from then on it reads nothing older
    row = await one.row(product_id)
    assert row is not None
    assert row.name == "B"


async def _follow_for_ever(instance: Instance) -> None:
    while True:
        await instance.follow()


async def test_what_changes_nothing_keeps_the_etag(one: Instance, records: MemoryRecords) -> None:
    """Without a request id nothing is put; with one the reply is kept, and nothing else happens."""
    product_id = await one.create("PEN")
    before = (await one.reads.product(product_id)).value
    await one.update(product_id, name="The PEN")
    assert records.latest(product_id) is None
    answer = await one.update(product_id, name="The PEN", request_id="r1")
    await one.flush()
    assert (await one.reads.product(product_id)).value == await one.row(product_id) == before
    await one.update(product_id, name="B")
    assert (await one.update(product_id, name="The PEN", request_id="r1")).reply == answer.reply
    assert await one.logged() == [("CREATED", "The PEN")]


async def test_what_waits_is_changed_without_the_database(one: Instance) -> None:
    """Also what was written a moment ago: the log says that nobody has changed it since."""
    waiting, written, cold = await one.create("PEN"), await one.create("INK"), await one.create("BOX")
    await one.update(written, name="A")
    await one.flush()
    await one.update(waiting, name="A")
    await one.database.close()
    async with one.database.engine.connect() as connection:
        await connection.exec_driver_sql("ALTER TABLE products RENAME TO away")
        await connection.commit()
    await one.update(waiting, name="B")
    await one.update(written, name="B")
    with pytest.raises(Exception, match="products"):
        await one.update(cold, name="B")


@asynccontextmanager
async def _interfering(instance: Instance, interfere: Any) -> AsyncIterator[None]:
    before, instance.log.interfere = instance.log.interfere, interfere
    yield
    instance.log.interfere = before


async def test_a_change_that_slept_for_long_is_not_based_on_the_past(
    one: Instance, other: Instance, clock: Clock
) -> None:
    """It has read the row, and others have changed it, written it, and left no trace in the log since: it sees that."""
    product_id = await one.create("PEN")
    slept = asyncio.Event()

    async def sleep(when: Literal["ask", "answer"], key: str) -> None:
        if when == "ask" and key == product_id and not slept.is_set():
            slept.set()
            await other.update(product_id, description="of a goose")
            await other.flush()
            clock.time += 100
            await other.follow()

    async with _interfering(one, sleep):
        await one.update(product_id, name="Quill")
    await one.flush()
    row = await one.row(product_id)
    assert row is not None
    assert (row.name, row.description) == ("Quill", "of a goose")


async def test_a_claim_that_slept_for_long_is_worth_nothing(one: Instance, other: Instance, clock: Clock) -> None:
    """The same where the mark was left in time, but vanished before the change was put."""
    product_id = await one.create("PEN")
    asked: list[str] = []

    async def sleep(when: Literal["ask", "answer"], key: str) -> None:
        asked.append(when)
        if asked == ["ask", "answer", "ask"]:
            clock.time += 100
            await other.update(product_id, description="of a goose")
            await other.flush()
            clock.time += 100

    async with _interfering(one, sleep):
        await one.update(product_id, name="Quill")
    await one.flush()
    row = await one.row(product_id)
    assert row is not None
    assert (row.name, row.description) == ("Quill", "of a goose")


async def test_a_put_that_was_kept_is_recognised(one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its acknowledgement was lost and another has changed the product since: it was done, and is not done again."""
    product_id = await one.create("PEN")
    await one.update(product_id, name="A")
    put = one.log.put

    async def put_and_lose(key: str, value: bytes, *, after: int) -> int:
        await put(key, value, after=after)
        monkeypatch.setattr(one.log, "put", put)
        other = Instance(one.database, one.log.records, 3)
        await other.follow()
        await other.update(product_id, description="of a goose")
        raise Superseded(key, one.log.records.latest(key))

    monkeypatch.setattr(one.log, "put", put_and_lose)
    answer = await one.update(product_id, name="B")
    assert answer.reply.product.name == "B"
    assert answer.reply.product.description == ""
    state = one.overlay.shown(product_id, 0.0)
    assert state is not None
    assert (state.product.name, state.product.description) == ("B", "of a goose")
    assert len(state.replaces) == 3


async def test_an_unknown_outcome_is_no_answer(one: Instance) -> None:
    """A put that may have been kept is not acknowledged; the same request finds out what became of it."""
    product_id = await one.create("PEN")
    await one.update(product_id, name="A")

    async def lose(when: Literal["ask", "answer"], _key: str) -> None:
        if when == "answer":
            raise BusUnavailable("no answer")

    async with _interfering(one, lose):
        with pytest.raises(BusUnavailable):
            await one.update(product_id, name="B", request_id="r1")
    assert (await one.update(product_id, name="B", request_id="r1")).reply.product.name == "B"
    state = one.overlay.shown(product_id, 0.0)
    assert state is not None
    assert len(state.replaces) == 2  # the row, and A


@pytest.mark.parametrize("bound", ["MAX_REPLACED", "MAX_BYTES", "MAX_PENDING"])
async def test_a_change_waits_for_room(one: Instance, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """What is too much waits until something is written; if nothing is, it fails after some time."""
    first, second = await one.create("PEN"), await one.create("INK")
    await one.update(first, name="A", request_id="r1")
    record = one.log.records.latest(first)
    assert record is not None
    limits = {"MAX_REPLACED": 1, "MAX_BYTES": len(record.value) + 20, "MAX_PENDING": 1}
    monkeypatch.setattr(behind, bound, limits[bound])
    monkeypatch.setattr(behind, "WAIT", 0.05)
    target = second if bound == "MAX_PENDING" else first
    with pytest.raises(Unavailable, match="wait to be written"):
        await one.update(target, name="B", request_id="r2")
    monkeypatch.setattr(behind, "WAIT", 10.0)
    update = asyncio.create_task(one.update(target, name="B", request_id="r2"))
    await asyncio.sleep(0)
    await one.flush()
    await update
    await one.flush()
    row = await one.row(target)
    assert row is not None
    assert row.name == "B"


async def test_many_changes_at_once_take_turns(one: Instance) -> None:
    """Fifty callers change one product at one instance: each change is based on the one before."""
    product_id = await one.create("PEN")
    await asyncio.gather(*(one.update(product_id, name=f"n{number}") for number in range(50)))
    state = one.overlay.shown(product_id, 0.0)
    assert state is not None
    assert len(state.replaces) == 50
    assert not one.changes._turns


async def test_a_sku_is_free_once_its_product_is_gone(one: Instance, other: Instance) -> None:
    """A creation waits for the deletion of the product that has its SKU; otherwise it is refused."""
    product_id = await one.create("PEN")
    following = [asyncio.create_task(_follow_for_ever(instance)) for instance in (one, other)]
    try:
        with pytest.raises(AlreadyExists):
            await other.create("PEN")
        await one.delete(product_id)
        creation = asyncio.create_task(other.create("PEN", "r1"))
        await asyncio.sleep(0.15)
        assert not creation.done()
        assert await one.flush() == 1
        assert await creation != product_id
    finally:
        for task in following:
            task.cancel()
