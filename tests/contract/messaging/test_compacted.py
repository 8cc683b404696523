"""The contract of the compacted log holds in memory and on JetStream."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from random import Random

import pytest

from shop_services.messaging.bus import BusFull, BusUnavailable
from shop_services.messaging.compacted import MAX_KEY, MAX_VALUE, CompactedLog, Follower, Record, StartOver, Superseded
from shop_services.messaging.compacted_memory import MemoryLog, MemoryRecords
from shop_services.messaging.jetstream import JetStreamLog, Limits
from shop_services.messaging.jetstream.connection import Connection
from tests.elapsed import measured
from tests.servers import Nats

MARKER_AGE = 5.0
"""Long enough for a test to find a marker, also on a machine that stands still meanwhile."""


class Logs(ABC):
    """Makes connections to one log, as the processes of a shop do."""

    def __init__(self) -> None:
        self.made: list[CompactedLog] = []

    def log(self) -> CompactedLog:
        made = self._make()
        self.made.append(made)
        return made

    @abstractmethod
    def _make(self) -> CompactedLog: ...

    @abstractmethod
    def hold(self, records: int) -> None:
        """Let the log hold so many records; before the first connection is made."""

    @abstractmethod
    def keep_markers(self, seconds: float) -> None:
        """Let markers stay for so long, before the first connection is made. A follower may be away for most of it."""

    @abstractmethod
    async def lose(self) -> None:
        """Lose the log, as an operator does who removes the wrong one."""


class MemoryLogs(Logs):
    def __init__(self) -> None:
        super().__init__()
        self._records = MemoryRecords(marker_age=MARKER_AGE)

    def _make(self) -> CompactedLog:
        return MemoryLog(self._records)

    def hold(self, records: int) -> None:
        self._records = MemoryRecords(marker_age=MARKER_AGE, capacity=records)

    def keep_markers(self, seconds: float) -> None:
        self._records = MemoryRecords(marker_age=seconds)

    async def lose(self) -> None:
        self._records.lose()


class JetStreamLogs(Logs):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._limits = Limits()
        self._marker_age = MARKER_AGE

    def _make(self) -> CompactedLog:
        limits, age = self._limits, self._marker_age
        return JetStreamLog(self._url, "test", name="tester", rng=Random(), limits=limits, marker_age=age)

    def hold(self, records: int) -> None:
        self._limits = Limits(records=records)

    def keep_markers(self, seconds: float) -> None:
        self._marker_age = seconds

    async def lose(self) -> None:
        connection = Connection(self._url, name="operator", rng=Random(1))
        link = await connection.link(5.0)
        await link.jetstream.delete_stream("SHOP-compacted-test")
        await connection.close()


@pytest.fixture(params=["memory", "jetstream"])
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[Logs]:
    if request.param == "memory":
        made: Logs = MemoryLogs()
    else:
        server: Nats = request.getfixturevalue("nats")
        made = JetStreamLogs(server.url)
    yield made
    for log in made.made:
        await log.close()


@pytest.fixture
async def log(logs: Logs) -> CompactedLog:
    return logs.log()


async def caught_up(follower: Follower) -> dict[str, Record]:
    """Read until all is read that was there when this began; the latest of each key."""
    begin = time.monotonic()
    latest: dict[str, Record] = {}
    async with asyncio.timeout(30):
        while True:
            news = await follower.read()
            latest.update((record.key, record) for record in news.records)
            if news.as_of >= begin:
                return latest


async def vanished(log: CompactedLog, key: str) -> None:
    async with asyncio.timeout(30):
        while (await log.latest(key)) is not None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)


async def test_a_put_is_the_latest(log: CompactedLog) -> None:
    """What was put is what `latest` and a follower say, under the sequence that `put` gave; sequences grow."""
    first = await log.put("a", b"1", after=0)
    second = await log.put("a", b"2", after=first)
    other = await log.put("b", b"3", after=0)
    assert 0 < first < second < other
    assert await log.latest("a") == Record("a", b"2", second, cleared=False)
    assert await log.latest("c") is None
    records = (await log.follow().read()).records
    assert records == (Record("a", b"2", second, cleared=False), Record("b", b"3", other, cleared=False))


async def test_a_put_after_another_sequence_is_superseded(log: CompactedLog) -> None:
    """A writer that is behind, or ahead, is told the latest record, and writes nothing."""
    first = await log.put("a", b"1", after=0)
    for after in (0, first + 7):
        with pytest.raises(Superseded) as refused:
            await log.put("a", b"2", after=after)
        assert refused.value.latest == Record("a", b"1", first, cleared=False)
        with pytest.raises(Superseded):
            await log.clear("a", after=after)
    with pytest.raises(Superseded) as refused:
        await log.put("new", b"2", after=first)
    assert refused.value.latest is None
    assert await log.latest("a") == Record("a", b"1", first, cleared=False)


async def test_whether_it_is_empty(logs: Logs, log: CompactedLog) -> None:
    """To ask makes no log; a record is one until its marker has vanished."""
    assert await log.is_empty()
    sequence = await log.put("a", b"1", after=0)
    assert not await logs.log().is_empty()
    await log.clear("a", after=sequence)
    assert not await log.is_empty()
    await vanished(log, "a")
    assert await log.is_empty()


async def test_one_of_several_writers_succeeds(logs: Logs) -> None:
    """Of writers that put after the same sequence one succeeds, and the others are told its record."""
    writers = [logs.log() for _ in range(4)]
    after = 0
    for _ in range(10):
        puts = [writer.put("a", str(i).encode(), after=after) for i, writer in enumerate(writers)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        (winner,) = (i for i, result in enumerate(results) if isinstance(result, int))
        after = results[winner]  # type: ignore[assignment]
        latest = Record("a", str(winner).encode(), after, cleared=False)
        assert [each.latest for each in results if isinstance(each, Superseded)] == [latest] * 3


async def test_a_cleared_record_leaves_a_note_and_vanishes(log: CompactedLog) -> None:
    """A cleared record is a marker with its note for a while, and then the key has none, and begins at 0 again."""
    follower = log.follow()
    first = await log.put("a", b"1", after=0)
    assert (await caught_up(follower))["a"].value == b"1"
    marker = await log.clear("a", after=first, note=b"done")
    expected = Record("a", b"done", marker, cleared=True)
    assert await log.latest("a") == expected
    assert await caught_up(follower) == {"a": expected}
    await vanished(log, "a")
    assert (await log.follow().read()).records == ()
    with pytest.raises(Superseded) as refused:
        await log.put("a", b"2", after=marker)
    assert refused.value.latest is None
    assert await log.put("a", b"2", after=0) > marker


async def test_a_key_without_a_record_can_be_marked(log: CompactedLog) -> None:
    """Clearing a key that has no record leaves a marker, of which followers read."""
    marker = await log.clear("a", after=0, note=b"note")
    assert await caught_up(log.follow()) == {"a": Record("a", b"note", marker, cleared=True)}


async def test_a_record_after_a_marker_stays(log: CompactedLog) -> None:
    """A put after a marker takes its place, and does not vanish with it."""
    marker = await log.clear("a", after=await log.put("a", b"1", after=0))
    again = await log.put("a", b"2", after=marker)
    await asyncio.sleep(MARKER_AGE + 1.5)
    assert await log.latest("a") == Record("a", b"2", again, cleared=False)


async def test_followers_end_at_the_latest_of_each_key(logs: Logs) -> None:
    """Followers that began before, during and after many puts by several writers know the same: the latest of each."""
    logs.keep_markers(60.0)  # who waits for slow writers longer than most of a marker's age has to start over
    log, rng = logs.log(), Random(5)
    early = log.follow()
    sequences: dict[str, int] = {}
    seen: dict[str, Record] = {}

    async def write(writer: CompactedLog, keys: list[str]) -> None:
        for number in range(150):
            key = rng.choice(keys)
            sequences[key] = await writer.put(key, f"{key} {number}".encode(), after=sequences.get(key, 0))

    async with asyncio.TaskGroup() as writers:
        for name in "xyz":
            writers.create_task(write(logs.log(), [f"{name}{i}" for i in range(20)]))
        seen |= await caught_up(early)
        midway = log.follow()
        also_seen = await caught_up(midway)
    seen |= await caught_up(early)
    also_seen |= await caught_up(midway)
    assert seen == also_seen == await caught_up(logs.log().follow())
    assert {key: record.sequence for key, record in seen.items()} == sequences


async def test_a_long_log_is_read_in_order(log: CompactedLog) -> None:
    """A follower reads more than it takes at a time in order, each record once; none of it claims to be up to date
    before the end."""
    sequences = [await log.put(str(i), b"", after=0) for i in range(600)]
    begin, follower, read = time.monotonic(), log.follow(), []
    while True:
        news = await follower.read()
        read += [record.sequence for record in news.records]
        if news.as_of >= begin:
            break
        assert read[-1] < sequences[-1]
    assert read == sequences


async def test_what_was_acknowledged_is_read_by_its_time(logs: Logs) -> None:
    """While records stream in, a read has all records that had been acknowledged at the time that it claims."""
    writer, follower = logs.log(), logs.log().follow()
    acknowledged: list[tuple[float, int]] = []
    over = asyncio.Event()

    async def write() -> None:
        after = 0
        while not over.is_set():
            after = await writer.put("a", b"", after=after)
            acknowledged.append((time.monotonic(), after))
            await asyncio.sleep(0.001)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        read, claims = 0, 0
        while claims < 20:
            news = await follower.read()
            read = max([read, *(record.sequence for record in news.records)])
            known = [sequence for at, sequence in acknowledged if at < news.as_of]
            claims += bool(known)
            assert read >= max(known, default=0)
        over.set()


async def test_reads_return_while_nothing_happens(log: CompactedLog) -> None:
    """A follower of a silent log returns about ten times a second, each time up to date."""
    follower = log.follow()
    await caught_up(follower)
    async with measured() as elapsed:
        before = time.monotonic()
        for _ in range(5):
            begin = time.monotonic()
            news = await follower.read()
            assert news.records == ()
            assert begin - 0.05 <= news.as_of <= time.monotonic()
        assert time.monotonic() - before >= 0.4
        assert elapsed.seconds < 3.0


async def test_a_full_log_refuses_new_keys_only(logs: Logs) -> None:
    """A log that is full takes no new key; those that it has can be put and cleared, and a cleared one makes room."""
    logs.hold(3)
    log = logs.log()
    sequences = {key: await log.put(key, b"1", after=0) for key in "abc"}
    with pytest.raises(BusFull):
        await log.put("d", b"1", after=0)
    sequences["a"] = await log.put("a", b"2", after=sequences["a"])
    await log.clear("a", after=sequences["a"])
    with pytest.raises(BusFull):
        await log.put("d", b"1", after=0)
    async with asyncio.timeout(30):
        while True:
            try:
                await log.put("d", b"1", after=0)
                break
            except BusFull:
                await asyncio.sleep(0.1)
    assert await log.latest("a") is None


async def test_a_lost_log_is_told_once(logs: Logs) -> None:
    """A follower of a log that was lost is told so once, also if it has grown beyond since, and reads the new one."""
    log = logs.log()
    follower, behind = log.follow(), log.follow()
    first = await log.put("a", b"1", after=0)
    await caught_up(follower)
    await caught_up(behind)
    await logs.lose()
    after = 0
    while after <= first:
        after = await log.put("b", b"2", after=after)
    for each in (follower, behind):
        with pytest.raises(StartOver) as told:
            await caught_up(each)
        assert told.value.lost
        assert await caught_up(each) == {"b": Record("b", b"2", after, cleared=False)}
    with pytest.raises(Superseded) as refused:
        await log.put("a", b"2", after=first)
    assert refused.value.latest is None


async def test_a_follower_that_was_away_for_long_starts_over(log: CompactedLog) -> None:
    """A follower that did not read while a record was cleared and its marker vanished is told to start over."""
    follower = log.follow()
    first = await log.put("a", b"1", after=0)
    other = await log.put("b", b"2", after=0)
    assert set(await caught_up(follower)) == {"a", "b"}
    await log.clear("a", after=first)
    await vanished(log, "a")
    with pytest.raises(StartOver) as told:
        await caught_up(follower)
    assert not told.value.lost
    assert await caught_up(follower) == {"b": Record("b", b"2", other, cleared=False)}


@pytest.mark.parametrize("key", ["a.b", "*", ">", "%", "%25", "a b\r\n", "ä/☃", "~", "k" * MAX_KEY])
async def test_any_text_can_be_a_key(log: CompactedLog, key: str) -> None:
    """Keys may have characters that mean something to a server, and come back as they were."""
    sequence = await log.put(key, b"1", after=0)
    expected = Record(key, b"1", sequence, cleared=False)
    assert await log.latest(key) == expected
    assert await caught_up(log.follow()) == {key: expected}
    assert await log.latest("x") is None


async def test_values_may_be_large(log: CompactedLog) -> None:
    """A value of the greatest size, and many at once, come back as they were; a greater one is refused."""
    value = Random(1).randbytes(MAX_VALUE)
    for key in "abcdefghijkl":
        await log.put(key, value, after=0)
    found = await caught_up(log.follow())
    assert len(found) == 12
    assert all(record.value == value for record in found.values())
    with pytest.raises(ValueError, match=r"value of 'm' has 1,044,481 bytes: more than 1,044,480"):
        await log.put("m", value + b"x", after=0)


async def test_bad_input_is_named(log: CompactedLog) -> None:
    """Keys, notes and sequences out of bounds are refused, and the error names what is wrong."""
    with pytest.raises(ValueError, match="a key has 1 to 1,024 bytes, not 0"):
        await log.put("", b"", after=0)
    with pytest.raises(ValueError, match="a key has 1 to 1,024 bytes, not 1,026"):
        await log.latest("ä" * 513)
    with pytest.raises(ValueError, match="after must be a sequence, or 0 for none, not -1"):
        await log.put("a", b"", after=-1)
    with pytest.raises(ValueError, match="has 1,044,481 bytes"):
        await log.clear("a", after=1, note=b"x" * (MAX_VALUE + 1))


async def test_a_closed_log_is_unavailable(log: CompactedLog) -> None:
    """Whoever uses a closed log is told so at once."""
    await log.close()
    await log.close()
    for use in (log.put("a", b"", after=0), log.clear("a", after=1), log.latest("a")):
        with pytest.raises(BusUnavailable, match="closed"):
            await use
