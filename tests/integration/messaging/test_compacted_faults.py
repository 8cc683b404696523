"""The compacted log on JetStream outlives its servers and its network: real servers, killed, frozen, cut off and wiped.

In each test several writers put and clear the same keys by compare-and-set while something is done to the servers, and
followers read. What they were told is compared with what is there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from grpc_registry.waiting import stop
from shop_services.messaging.bus import BusFull, BusUnavailable
from shop_services.messaging.compacted import Follower, Record, StartOver, Superseded
from shop_services.messaging.jetstream import JetStreamLog, Limits, compacted, publishing
from shop_services.messaging.jetstream.connection import Connection
from tests.elapsed import measured
from tests.integration.client.proxy import Proxy
from tests.servers import Nats, NatsCluster

KEYS = [f"k{i}" for i in range(8)]

Disturb = Callable[[], Awaitable[None]]


@asynccontextmanager
async def opened(*urls: str, replicas: int = 1) -> AsyncIterator[list[JetStreamLog]]:
    """A connection for each URL."""
    logs = [
        JetStreamLog(url, "test", name=f"tester {i}", replicas=replicas, rng=Random(i)) for i, url in enumerate(urls)
    ]
    try:
        yield logs
    finally:
        async with measured() as elapsed:
            await asyncio.gather(*(log.close() for log in logs))
            assert elapsed.seconds < 2.5
            assert elapsed.wall < 10.0  # also if it blocks the loop


async def without_blocking(step: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, step)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that its writer was told to be kept, and when."""

    record: Record
    after: int
    at: float


class History:
    """What writers did, what followers saw, and whether both agree with what is there."""

    def __init__(self) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.open: set[tuple[str, bytes, int]] = set()
        """What may have been kept, or not: key, value and the sequence that it was put after."""
        self.starts_over: list[bool] = []
        self.enough, self.over = asyncio.Event(), asyncio.Event()

    async def write(self, log: JetStreamLog, name: int) -> None:
        """Put and clear at random keys, after what this writer knows of them, until it is enough."""
        rng, known, number = Random(name), dict[str, int](), 0
        while not self.enough.is_set():
            key, number, clears = rng.choice(KEYS), number + 1, rng.random() < 0.2
            value, after = f"{name}-{number}".encode(), known.get(key, 0)
            try:
                write = log.clear(key, after=after, note=value) if clears else log.put(key, value, after=after)
                sequence = await write
            except Superseded as refused:
                known[key] = refused.latest.sequence if refused.latest else 0
                self.open.add((key, value, after))  # it may tell so of a write that was kept and then replaced
                continue
            except BusUnavailable:
                self.open.add((key, value, after))
                continue
            known[key] = sequence
            self.acknowledged.append(Acknowledged(Record(key, value, sequence, clears), after, time.monotonic()))
            await asyncio.sleep(rng.uniform(0, 0.01))

    async def follow(self, follower: Follower, seen: dict[str, Record]) -> None:
        """Read until it is over and all was read; compare each claim to be up to date with what was acknowledged."""
        checked = 0
        while not (self.over.is_set() and checked == len(self.acknowledged)):
            try:
                news = await follower.read()
            except StartOver as told:
                self.starts_over.append(told.lost)
                seen.clear()
                continue
            for record in news.records:
                before = seen.get(record.key)
                assert before is None or before.sequence < record.sequence
                seen[record.key] = record
            while checked < len(self.acknowledged) and self.acknowledged[checked].at < news.as_of:
                if True not in self.starts_over:
                    one = self.acknowledged[checked].record
                    assert one.key in seen
                    assert seen[one.key].sequence >= one.sequence
                checked += 1

    async def until(self, acknowledged: int) -> None:
        """Wait until so many more writes were acknowledged."""
        enough = len(self.acknowledged) + acknowledged
        while len(self.acknowledged) < enough:  # noqa: ASYNC110 - what is waited for is not announced
            await asyncio.sleep(0.02)

    def check(self, latest: dict[str, Record]) -> None:
        """No write was lost, none replaced one that its writer did not know, and what is there was written."""
        afters = [(one.record.key, one.after) for one in self.acknowledged]
        assert len(set(afters)) == len(afters), "two writers succeeded after the same sequence"
        replaced = set(afters) | {(key, after) for key, _, after in self.open}
        written = {one.record.sequence: one.record for one in self.acknowledged}
        assert len(written) == len(self.acknowledged)
        for record in written.values():
            assert latest[record.key] == record or (record.key, record.sequence) in replaced, f"{record} was lost"
            assert latest[record.key].sequence >= record.sequence
        unknown = {(key, value) for key, value, _ in self.open}
        for record in latest.values():
            assert written.get(record.sequence) == record or (record.key, record.value) in unknown


async def play(urls: list[str], disturb: Disturb, *, replicas: int = 1, wiped: bool = False) -> History:
    """Write and follow through each URL until a while after `disturb` has returned; check, and return what happened."""
    history = History()
    async with opened(*urls, replicas=replicas) as logs:
        seen: list[dict[str, Record]] = [{} for _ in logs]
        async with asyncio.timeout(180), asyncio.TaskGroup() as followers:
            for log, known in zip(logs, seen, strict=True):
                followers.create_task(history.follow(log.follow(), known))
            async with asyncio.TaskGroup() as writers:
                for i, log in enumerate(logs):
                    writers.create_task(history.write(log, i))
                await history.until(100)
                while not all(seen):  # noqa: ASYNC110 - who has read nothing yet is told of no loss
                    await asyncio.sleep(0.02)
                await disturb()
                await history.until(100)
                history.enough.set()
            history.over.set()
        found = {key: record for key in KEYS if (record := await logs[0].latest(key)) is not None}
        for each in seen:
            assert each == found
        late: dict[str, Record] = {}
        await history.follow(logs[-1].follow(), late)
        assert late == found
    assert history.starts_over == ([True] * len(urls) if wiped else [])
    if not wiped:
        history.check(found)
    return history


async def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    """A server that is killed, stopped and killed, amid writes, loses no acknowledged one; followers end exact."""
    server = Nats(tmp_path / "nats", sync_always=True).start()

    async def disturb() -> None:
        for end in (server.kill, server.stop, server.kill):
            await without_blocking(end)
            await asyncio.sleep(0.3)
            await without_blocking(server.start)
            await asyncio.sleep(0.7)

    try:
        await play([server.url] * 3, disturb)
    finally:
        server.kill()


async def test_a_frozen_server_loses_nothing(nats: Nats) -> None:
    """A server that is frozen for a moment, and for longer than its connections are kept, loses nothing; what it gets
    to late is not written twice."""

    async def disturb() -> None:
        for seconds in (1.0, 6.0):
            nats.pause()
            await asyncio.sleep(seconds)
            nats.resume()
            await asyncio.sleep(1.0)

    history = await play([nats.url] * 3, disturb)
    assert history.open


async def test_a_lost_network_loses_nothing(nats: Nats) -> None:
    """Connections of one writer and follower after another that lose answers, and break, change nothing."""
    proxies = [await Proxy(nats.port).start() for _ in range(3)]
    rng = Random(3)

    async def disturb() -> None:
        for _ in range(4):
            for proxy in proxies:
                proxy.back.freeze()
                await asyncio.sleep(rng.uniform(0.05, 0.3))
                proxy.cut()
                proxy.thaw()
        proxies[0].freeze()  # as silent as a cable that was pulled
        await asyncio.sleep(6.0)
        proxies[0].thaw()

    await play([f"nats://127.0.0.1:{proxy.port}" for proxy in proxies], disturb)
    for proxy in proxies:
        await proxy.stop()


async def test_a_wiped_server_is_noticed(nats: Nats) -> None:
    """Followers of a server that comes back empty are told once that the log was lost, and end at what is there."""

    async def disturb() -> None:
        nats.kill()
        nats.wipe()
        await without_blocking(nats.start)

    await play([nats.url] * 2, disturb, wiped=True)


async def test_a_lost_acknowledgement_is_found_out(nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put whose answer was lost is written once, and its sequence returned, also if the server has restarted."""
    for module in (compacted, publishing):
        monkeypatch.setattr(module, "TIMEOUT", 30.0)  # a restart takes its time on a busy machine
    proxy = await Proxy(nats.port).start()
    async with opened(f"nats://127.0.0.1:{proxy.port}", nats.url) as (writer, other):
        after = await writer.put("a", b"0", after=0)
        for restart in (False, True):
            proxy.back.freeze()
            value = f"again, {restart}".encode()
            put = asyncio.create_task(writer.put("a", value, after=after))
            async with asyncio.timeout(20):
                while (kept := await other.latest("a")) is None or kept.value != value:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)
            if restart:
                await without_blocking(nats.kill)
            proxy.cut()
            proxy.thaw()
            if restart:
                await without_blocking(nats.start)
            assert await put == kept.sequence == after + 1
            after = kept.sequence
            assert await other.latest("a") == kept
    await proxy.stop()


async def test_a_frozen_server_is_told_of_in_time(nats: Nats) -> None:
    """While the server is frozen, writing and looking fail within 5 s, and a follower claims nothing newer."""
    async with opened(nats.url) as (log,):
        first = await log.put("a", b"1", after=0)
        follower = log.follow()
        while not (await follower.read()).as_of > 0:
            pass
        nats.pause()
        async with measured() as elapsed:
            begin = time.monotonic()
            uses = (log.put("b", b"", after=0), log.clear("a", after=first), log.latest("a"))
            read = asyncio.create_task(follower.read())
            for outcome in await asyncio.gather(*uses, return_exceptions=True):
                assert isinstance(outcome, BusUnavailable)
            assert time.monotonic() - begin > 4.5
            assert elapsed.seconds < 6.0
        assert not read.done()
        nats.resume()
        async with asyncio.timeout(15):
            assert (await read).as_of > begin + 4.5


async def test_a_server_that_refuses_is_complained_of_once(nats: Nats) -> None:
    """A follower whose log cannot be made says so once, with the reason."""
    with capture_logs() as logs:
        async with opened(nats.url, replicas=3) as (log,):
            reading = asyncio.create_task(log.follow().read())
            async with asyncio.timeout(30):
                while not any(line["event"] == "a log cannot be followed" for line in logs):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await asyncio.wait([reading], timeout=1.0)  # it is tried again meanwhile, and says nothing of that
            assert not reading.done()
            await stop(reading)
    (complaint,) = (line for line in logs if line["event"] == "a log cannot be followed")
    assert "replicas > 1 not supported" in complaint["reason"]


async def leader(cluster: NatsCluster, url: str) -> Nats:
    """The member that leads the log's stream, as soon as one does."""
    connection = Connection(url, name="operator", rng=Random(1))
    try:
        async with asyncio.timeout(30):
            while True:
                with suppress(TimeoutError):
                    subject = "$JS.API.STREAM.INFO.SHOP-compacted-test"
                    answer = json.loads((await connection.request(subject, b"", headers={}, timeout=5.0)).data)
                    name = answer.get("cluster", {}).get("leader")
                    for member in cluster.members:
                        if member.name == name:
                            return member
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def test_a_cluster_loses_its_leader_and_nothing_else(nats_cluster: NatsCluster) -> None:
    """The log's leader is killed and comes back, and the next is frozen and comes back: nothing is lost, and no
    follower claims to be up to date when it is not."""

    async def disturb() -> None:
        first = await leader(nats_cluster, nats_cluster.url)
        first.kill()
        await asyncio.sleep(8.0)
        await without_blocking(first.start)
        second = await leader(nats_cluster, nats_cluster.url)
        second.pause()
        await asyncio.sleep(10.0)
        second.resume()
        await asyncio.sleep(1.0)

    await play([nats_cluster.url, *(member.url for member in nats_cluster.members)], disturb, replicas=3)


async def test_a_minority_claims_nothing(nats_cluster: NatsCluster) -> None:
    """A leader that has lost the other servers, which may have another leader by now, is believed nothing."""
    async with opened(nats_cluster.url, replicas=3) as (log,):
        async with asyncio.timeout(30):
            while True:
                try:
                    await log.put("a", b"1", after=0)
                    break
                except BusUnavailable:
                    continue
                except Superseded:
                    break
        left = await leader(nats_cluster, nats_cluster.url)
    async with opened(left.url, replicas=3) as (log,):
        follower = log.follow()
        async with asyncio.timeout(15):
            while not (await follower.read()).as_of > 0:
                pass
        others = [member for member in nats_cluster.members if member is not left]
        for member in others:
            member.pause()
        paused = time.monotonic()
        claims: list[float] = []

        async def note_claims() -> None:
            while True:
                claims.append((await follower.read()).as_of)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(note_claims(), 6.0)
        assert max(claims, default=0.0) <= paused
        with pytest.raises(BusUnavailable):
            await log.latest("a")
        for member in others:
            member.resume()
        async with asyncio.timeout(45):
            while not (await follower.read()).as_of > paused:
                pass


async def test_a_full_clustered_log_can_be_cleared(nats_cluster: NatsCluster) -> None:
    """A log with replicas that is full can be cleared and followed, and has room again when the marker has vanished."""
    log = JetStreamLog(
        nats_cluster.url, "test", name="tester", replicas=3, limits=Limits(records=4), marker_age=5.0, rng=Random(1)
    )
    follower = log.follow()
    async with asyncio.timeout(60):
        while not (await follower.read()).as_of > 0:  # its beacon takes the place of a record
            pass
        sequences = {key: await log.put(key, b"", after=0) for key in "abc"}
        with pytest.raises(BusFull):
            await log.put("d", b"", after=0)
        sequences["b"] = await log.put("b", b"2", after=sequences["b"])
        marker = await log.clear("a", after=sequences["a"])
        while not (records := (await follower.read()).records) or records[-1].sequence < marker:
            pass
        assert (records[-1].key, records[-1].sequence, records[-1].cleared) == ("a", marker, True)
        while await log.latest("a") is not None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)
        await log.put("d", b"", after=0)
    await log.close()
