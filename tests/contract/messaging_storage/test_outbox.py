"""A message is sent if, and only if, its transaction is committed, whatever fails in between."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import Literal

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from shop_services.messaging import lane, relay
from shop_services.messaging.bus import BusFull, BusUnavailable, Message
from shop_services.messaging.outbox import CLAIM, Outbox, Pending
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import Unavailable
from shop_services.storage import Database
from tests.contract.messaging_storage.box import (
    FlakyBus,
    FlakyDatabase,
    ids,
    left,
    messages,
    outbox_rows,
    until,
    until_empty,
    write,
)
from tests.contract.messaging_storage.conftest import Clock

LONGER = CLAIM.total_seconds() + 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds where production waits seconds."""
    monkeypatch.setattr(relay, "POLL", 0.05)
    for module in (relay, lane):
        monkeypatch.setattr(module, "BACKOFF", RetryPolicy(first=0.01, longest=0.1))


@pytest.fixture
async def bus() -> FlakyBus:
    """The bus of every process of a test."""
    return FlakyBus()


@pytest.fixture
def outbox(database: FlakyDatabase, bus: FlakyBus, clock: Clock) -> Outbox:
    """The outbox of one process."""
    return Outbox(database, outbox_rows, bus, clock, rng=Random(1))


async def test_what_is_committed_is_sent_at_once_and_deleted(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox
) -> None:
    """Without a look at the table; the row goes when the bus has acknowledged it."""
    async with outbox.relaying():
        written = messages(3)
        await write(database, outbox, written)
        outbox.committed(written)
        await until(lambda: ids(written) == set(bus.kept))
        await until_empty(database)
    assert set(bus.kept.values()) == {1}


async def test_what_is_rolled_back_is_never_sent(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """Neither now nor when its claim would have ended."""

    async def failing(connection: AsyncConnection) -> None:
        await outbox.add(connection, messages(1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.atomically(failing)
    clock.pass_seconds(LONGER)
    after = messages(1, prefix="after")
    async with outbox.relaying():
        await write(database, outbox, after)
        outbox.committed(after)
        await until_empty(database)
    assert set(bus.kept) == ids(after)


async def test_what_a_dead_process_left_is_sent_when_its_claim_ends(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """Until then nobody else touches it: its writer is about to send it."""
    await write(database, outbox, messages(5))
    async with outbox.relaying():
        await asyncio.sleep(0.2)
        assert not bus.kept
        clock.pass_seconds(LONGER)
        await until_empty(database)
    assert set(bus.kept) == ids(messages(5))


async def test_a_death_after_publishing_repeats_the_message(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """The row says that it was not sent, so it is sent again; the bus keeps it once."""
    written = messages(1)
    await write(database, outbox, written)
    await bus.publish(written[0])  # and the process dies
    clock.pass_seconds(LONGER)
    async with outbox.relaying():
        await until_empty(database)
    assert bus.kept == {"m0": 2}


async def test_a_commit_of_unknown_fate_is_found(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """The commit happened, the answer was lost: nobody said `committed`, and the message is sent all the same."""
    async with outbox.relaying():
        database.mute = True
        with pytest.raises(Unavailable):
            await write(database, outbox, messages(1))
        database.mute = False
        clock.pass_seconds(LONGER)
        await until_empty(database)
    assert bus.kept == {"m0": 1}


async def test_several_relays_share_the_work(
    database: FlakyDatabase, database_url: str, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """Rows that were left behind are sent by one of them each."""
    await write(database, outbox, messages(1000))
    clock.pass_seconds(LONGER)
    async with AsyncExitStack() as stack:
        for n in range(4):
            other = await stack.enter_async_context(Database(database_url, service="test", pool=2))
            instance = Outbox(other, outbox_rows, bus, clock, rng=Random(n))
            await stack.enter_async_context(instance.relaying())
        await until_empty(database)
    assert set(bus.kept) == ids(messages(1000))
    assert set(bus.kept.values()) == {1}


async def test_nothing_is_lost_while_the_bus_is_away(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """An outage, longer than claims, is logged once; when it is over everything is sent, also what came meanwhile."""
    bus.fault = lambda _: BusUnavailable("away")
    early, late = messages(100), messages(100, prefix="late")
    with capture_logs() as entries:
        async with outbox.relaying():
            await write(database, outbox, early)
            outbox.committed(early)
            await until(lambda: bus.asked > 100)
            clock.pass_seconds(LONGER)
            await write(database, outbox, late)
            outbox.committed(late)
            asked = bus.asked
            await until(lambda: bus.asked > asked + 20)
            assert await left(database) == ids(early) | ids(late)
            bus.fault = lambda _: None
            clock.pass_seconds(LONGER)
            await until_empty(database)
    assert set(bus.kept) == ids(early) | ids(late)
    assert [entry["event"] for entry in entries] == ["relay_paused", "relay_resumed"]


async def test_a_short_outage_delays_what_is_in_memory_no_longer_than_itself(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox
) -> None:
    """Messages stay in memory while their claim lasts, and are sent when the bus is back, without a sweep."""
    bus.fault = lambda _: BusUnavailable("away")
    written = messages(50)
    async with outbox.relaying():
        await write(database, outbox, written)
        outbox.committed(written)
        await until(lambda: bus.asked > 60)
        bus.fault = lambda _: None
        await until_empty(database)  # the clock stands still: no claim ends
    assert bus.kept == dict.fromkeys(ids(written), 1)


async def test_a_full_topic_holds_up_no_other(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """Neither in memory nor in the table, where its rows are older; and it is not asked all the time."""
    bus.fault = lambda message: BusFull("full") if message.topic == "orders" else None
    stuck, swept, fresh = messages(600), messages(300, "payments", "p"), messages(50, "inventory", "i")
    for written in (stuck, swept):
        await write(database, outbox, written)
    clock.pass_seconds(LONGER)
    async with outbox.relaying():
        await write(database, outbox, fresh)
        outbox.committed(fresh)
        await until(lambda: set(bus.kept) == ids(swept) | ids(fresh))
        bus.fault = lambda _: None
        clock.pass_seconds(LONGER)
        await until_empty(database)
    assert set(bus.kept) == ids(stuck) | ids(swept) | ids(fresh)


async def test_memory_and_concurrency_are_bounded(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the bus says nothing, only so many messages are held and being sent; the others are found later."""
    monkeypatch.setattr(lane, "MEMORY", 100)
    most = relay.CONCURRENCY
    bus.gate.clear()
    written = messages(500)
    async with outbox.relaying():
        await write(database, outbox, written)
        outbox.committed(written)
        await until(lambda: bus.now == most)
        assert repr(outbox) == f"<Outbox test_outbox: {100 - most} queued, {most} being sent, 0 to be deleted>"
        bus.gate.set()
        await until(lambda: len(bus.kept) >= 100)
        clock.pass_seconds(LONGER)
        await until_empty(database)
    assert set(bus.kept) == ids(written)
    assert bus.most == most
    assert repr(outbox) == "<Outbox test_outbox: not relaying>"


async def test_leaving_sends_what_is_in_memory(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than can be sent at a time, and nothing is left in the table."""
    monkeypatch.setattr(relay, "GRACE", 30.0)  # a busy machine may need more than usual
    written = messages(300)
    async with outbox.relaying():
        await write(database, outbox, written)
        outbox.committed(written)
    assert bus.kept == dict.fromkeys(ids(written), 1)
    assert not await left(database)
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


async def test_leaving_a_silent_bus_is_prompt_and_gives_the_rows_to_others_at_once(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be sent in time is released: the next relay sends it though its claim has not ended."""
    monkeypatch.setattr(relay, "GRACE", 0.3)

    given_up: list[float] = []

    class Silence(asyncio.Event):
        async def wait(self) -> Literal[True]:
            try:
                return await super().wait()
            finally:  # the bus is given up: a busy machine may take longer for the table
                monkeypatch.setattr(relay, "GRACE", 30.0)
                given_up.append(time.monotonic())

    written = messages(300)
    bus.gate = Silence()
    async with outbox.relaying():
        await write(database, outbox, written)
        outbox.committed(written)
        left_at = time.monotonic()
    assert given_up[0] - left_at < 5
    assert (bus.now, bus.kept) == (0, {})
    bus.gate.set()
    async with Outbox(database, outbox_rows, bus, clock).relaying():
        await until_empty(database)
    assert bus.kept == dict.fromkeys(ids(written), 1)


async def test_rows_that_cannot_be_deleted_are_deleted_later(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox
) -> None:
    """The failure is logged once, and nothing is sent again as long as the process lives."""
    written = messages(20)
    with capture_logs() as entries:
        async with outbox.relaying():
            await write(database, outbox, written)
            database.read_only = True
            outbox.committed(written)
            await until(lambda: any(entry["event"] == "relay_database_failed" for entry in entries))
            await asyncio.sleep(0.2)
            assert await left(database) == ids(written)
            database.read_only = False
            await until_empty(database)
    assert bus.kept == dict.fromkeys(ids(written), 1)
    assert [entry["event"] for entry in entries] == ["relay_database_failed", "relay_database_back"]


async def test_what_could_not_be_deleted_is_bounded_too(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending waits for deleting, when there is much to delete."""
    monkeypatch.setattr(relay, "UNDELETED", 10)
    monkeypatch.setattr(relay, "CONCURRENCY", 5)
    written = messages(100)
    async with outbox.relaying():
        await write(database, outbox, written)
        database.read_only = True
        outbox.committed(written)
        await until(lambda: len(bus.kept) >= 10)
        await asyncio.sleep(0.1)
        assert len(bus.kept) < 15
        database.read_only = False
        await until_empty(database)
    assert bus.kept == dict.fromkeys(ids(written), 1)


async def test_a_relay_outlives_the_database(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """It goes on when the database is back."""
    await write(database, outbox, messages(10))
    clock.pass_seconds(LONGER)
    with capture_logs() as entries:
        database.away = True
        async with outbox.relaying():
            await until(lambda: bool(entries))
            await asyncio.sleep(0.1)
            database.away = False
            await until_empty(database)
    assert [entry["event"] for entry in entries] == ["relay_database_failed", "relay_database_back"]


async def test_a_message_that_cannot_be_published_stands_alone(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """It is logged and tried again when its claim has ended; the others of its topic are sent."""
    bus.fault = lambda message: ValueError("too large") if message.envelope.id == "m0" else None
    written = messages(10)
    with capture_logs() as entries:
        async with outbox.relaying():
            await write(database, outbox, written)
            outbox.committed(written)
            await until(lambda: len(bus.kept) == 9)
            assert [(entry["event"], entry["id"]) for entry in entries] == [("message_not_published", "m0")]
            bus.fault = lambda _: None
            clock.pass_seconds(LONGER)
            await until_empty(database)


async def test_a_row_that_cannot_be_read_holds_up_no_other(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock
) -> None:
    """It is logged and stays, for somebody to look at."""
    await write(database, outbox, messages(3))
    async with database.transaction() as connection:
        broken = outbox_rows.update().where(outbox_rows.c.id == "m1")
        await connection.execute(broken.values(envelope=b"\xff"))
    clock.pass_seconds(LONGER)
    with capture_logs() as entries:
        async with outbox.relaying():
            await until(lambda: len(bus.kept) == 2)
    assert await left(database) == {"m1"}
    assert [(entry["event"], entry["id"]) for entry in entries] == [("outbox_row_unreadable", "m1")]


@pytest.mark.parametrize(("topic", "id_", "what"), [("orders", "", "id"), ("parcels", "m", "no topic 'parcels'")])
async def test_what_could_never_be_sent_is_refused(
    database: FlakyDatabase, outbox: Outbox, topic: str, id_: str, what: str
) -> None:
    """The transaction fails instead of keeping a row for ever."""
    message = messages(1, topic)[0]
    message.envelope.id = id_
    with pytest.raises(ValueError, match=what):
        await write(database, outbox, [message])
    assert await left(database) == set()


async def test_no_messages_are_no_rows(database: FlakyDatabase, outbox: Outbox) -> None:
    """Adding none writes none."""
    await write(database, outbox, [])
    assert await left(database) == set()


async def test_an_outbox_relays_once_at_a_time(outbox: Outbox) -> None:
    """A second block is a mistake of the caller; one after the other is not."""
    async with outbox.relaying():
        with pytest.raises(RuntimeError, match="relaying already"):
            async with outbox.relaying():
                raise AssertionError("unreachable")
    async with outbox.relaying():
        pass


async def test_what_waits_for_long_is_told(
    database: FlakyDatabase, bus: FlakyBus, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pending` counts rows and tells the age of the oldest; an old one is warned about."""
    assert await outbox.pending() == Pending(0, timedelta())
    await write(database, outbox, messages(2))
    clock.pass_seconds(90)
    await write(database, outbox, messages(1, prefix="new"))
    assert await outbox.pending() == Pending(3, timedelta(seconds=90))
    bus.fault = lambda _: BusFull("full")
    monkeypatch.setattr(relay, "LATE", timedelta(seconds=0.1))
    with capture_logs() as entries:
        async with outbox.relaying():
            await until(lambda: any(entry["event"] == "outbox_late" for entry in entries))
    warning = next(entry for entry in entries if entry["event"] == "outbox_late")
    assert (warning["table"], warning["pending"], warning["oldest_seconds"]) == ("test_outbox", 3, 90)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_fails_nothing_is_lost(
    database: FlakyDatabase, database_url: str, bus: FlakyBus, clock: Clock, seed: int
) -> None:
    """Bus and database fail at random, acknowledgements get lost, processes die and start; in the end all is sent."""
    rng = Random(seed)
    faults = [BusFull("full"), BusUnavailable("away"), None, None, None]
    sent: set[str] = set()

    async def process(number: int) -> None:
        async with FlakyDatabase(database_url, service="test", pool=2) as own:
            outbox = Outbox(own, outbox_rows, bus, clock, rng=Random(number))
            async with outbox.relaying():
                for n in range(rng.randrange(5, 20)):
                    await one(own, outbox, f"{number}-{n}-")

    async def one(own: FlakyDatabase, outbox: Outbox, prefix: str) -> None:
        written = messages(rng.randrange(1, 4), rng.choice(["orders", "payments"]), prefix)
        await write(own, outbox, written)
        sent.update(ids(written))
        if rng.random() < 0.8:
            outbox.committed(written)
        own.read_only = rng.random() < 0.1
        await asyncio.sleep(0.005)
        own.read_only = False
        clock.pass_seconds(rng.choice([0, 0, 0, 1, 6]))

    def fault(message: Message) -> Exception | None:
        if (error := rng.choice(faults)) is not None and rng.random() < 0.2:
            bus.kept[message.envelope.id] += 1  # it was kept, and the acknowledgement was lost
        return error

    bus.fault = fault
    for wave in range(2):
        await asyncio.gather(*(process(10 * wave + n) for n in range(3)))
    bus.fault = lambda _: None
    clock.pass_seconds(LONGER)
    async with Outbox(database, outbox_rows, bus, clock).relaying():
        await until_empty(database)
    assert sent
    assert sent <= set(bus.kept)
