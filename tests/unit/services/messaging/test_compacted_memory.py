"""What only the compacted log in memory does: a clock of one's own, and faults on the way to it."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.compacted import BATCH, MARKER_AGE, Record, StartOver
from shop_services.messaging.compacted_memory import MemoryLog, MemoryRecords
from shop_services.messaging.connect import connect_compacted
from shop_services.runtime.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Faults:
    """Refuses what is asked, or loses the answer, as often as it is told to."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {"ask": 0, "answer": 0}
        self.keys: list[str] = []

    async def __call__(self, when: Literal["ask", "answer"], key: str) -> None:
        self.keys.append(key)
        if self.left[when]:
            self.left[when] -= 1
            raise BusUnavailable("lost")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(clock: Clock) -> MemoryRecords:
    return MemoryRecords(clock=clock)


async def test_markers_vanish_by_the_clock(records: MemoryRecords, clock: Clock) -> None:
    """A marker is there for a minute of the given clock, and a record put in its place stays."""
    log = MemoryLog(records)
    for key in "ab":
        await log.clear(key, after=await log.put(key, b"", after=0))
    clock.now += MARKER_AGE / 2
    marker = await log.latest("b")
    assert marker is not None
    again = await log.put("b", b"2", after=marker.sequence)
    clock.now += MARKER_AGE / 2 - 0.001
    assert await log.latest("a") is not None
    clock.now += 0.001
    assert await log.latest("a") is None
    assert await log.latest("b") == Record("b", b"2", again, cleared=False)


async def test_a_lost_request_does_nothing_and_a_lost_answer_is_kept(records: MemoryRecords) -> None:
    """A fault before a write leaves no trace of it; one after it leaves the record, and its writer unknowing."""
    log, other, faults = MemoryLog(records), MemoryLog(records), Faults()
    log.interfere = faults
    faults.left["ask"] = 1
    with pytest.raises(BusUnavailable):
        await log.put("a", b"1", after=0)
    assert await other.latest("a") is None
    faults.left["answer"] = 1
    with pytest.raises(BusUnavailable):
        await log.put("a", b"1", after=0)
    assert await other.latest("a") == Record("a", b"1", 1, cleared=False)
    assert faults.keys == ["a"] * 3


async def test_a_follower_outlasts_faults(records: MemoryRecords, clock: Clock) -> None:
    """A follower whose look fails looks again, loses nothing by it, and claims no earlier look as a success."""
    log, faults = MemoryLog(records), Faults()
    follower = log.follow()
    await log.put("a", b"1", after=0)
    log.interfere = faults
    faults.left = {"ask": 1, "answer": 1}
    reading = asyncio.create_task(follower.read())
    await asyncio.sleep(0)
    clock.now += 1
    news = await reading
    assert [record.key for record in news.records] == ["a"]
    assert news.as_of == clock.now


async def test_a_record_wakes_followers(records: MemoryRecords) -> None:
    """A follower that waits for something new reads it as soon as it is put."""
    log = MemoryLog(records)
    follower = log.follow()
    assert (await follower.read()).records == ()
    reading = asyncio.create_task(follower.read())
    await asyncio.sleep(0)
    await log.put("a", b"1", after=0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert reading.done()
    assert [record.key for record in (await reading).records] == ["a"]


async def test_a_follower_that_read_until_lately_goes_on(records: MemoryRecords, clock: Clock) -> None:
    """A follower may be away for three quarters of a marker's age; beyond that it starts over."""
    log = MemoryLog(records)
    follower = log.follow()
    await follower.read()
    clock.now += MARKER_AGE * 0.75
    await follower.read()
    clock.now += MARKER_AGE * 0.75 + 0.1
    with pytest.raises(StartOver):
        await follower.read()
    assert (await follower.read()).as_of == clock.now


async def test_a_full_batch_claims_nothing(records: MemoryRecords) -> None:
    """A read that took as much as it may says nothing of being up to date."""
    log = MemoryLog(records)
    for i in range(BATCH):
        await log.put(str(i), b"", after=0)
    follower = log.follow()
    assert (await follower.read()).as_of == float("-inf")
    assert (await follower.read()).as_of == 100.0


async def test_logs_of_one_name_are_one() -> None:
    """Logs of the same memory and name share their records; others do not."""
    settings = Settings(nats_url="memory://here")
    one, same = (connect_compacted(settings, "catalog", name=name) for name in ("a", "b"))
    others = [
        connect_compacted(settings, "other", name="a"),
        connect_compacted(Settings(nats_url="memory://there"), "catalog", name="a"),
    ]
    sequence = await one.put("a", b"1", after=0)
    assert await same.latest("a") == Record("a", b"1", sequence, cleared=False)
    for other in others:
        assert await other.latest("a") is None
