"""Processes of the cache service that share the keys, under load: one joins, one is killed, one stands still."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Registry
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.caching.direct import direct_channel
from shop_services.caching.errors import CacheUnavailable
from shop_services.caching.ring import SERVICE, Ring, ring_channel
from shop_services.caching.service import ServiceCache
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.settings import Settings
from tests.elapsed import measured
from tests.identity import as_operator
from tests.servers import Etcd
from tests.servers.service import ServiceProcess

SECONDS = 90
PATIENT = """
import sys
from functools import partial
from shop_services.cache import wiring
from shop_services.cache.peers import Peers
from shop_services.runtime.serve import run

wiring.Peers = partial(Peers, seconds=30)
sys.exit(run(wiring.NAME, wiring.wire))
"""
"""What `python -m shop_services.cache` does, but for what it says of `Peers`."""
KEYS = [f"product/{number}" for number in range(20_000)]
BATCH = 1000
PROCESSES = 3

Work = Callable[[random.Random], Awaitable[object]]


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing to await
            await asyncio.sleep(0.01)


class Patient(ServiceProcess):
    """An instance that waits longer than a second for another one, which may stand still with the machine."""

    def command(self) -> Sequence[str]:
        *start, _, _ = super().command()
        return [*start, "-c", PATIENT]


class Shop:
    """Processes of the cache service, and those who call it: by the ring, and without knowing of one.

    A process that stands still for most of its `lease`, in seconds, holds its values for lost.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        registry: Registry,
        by_ring: Channel,
        blindly: Channel,
        kind: type[ServiceProcess],
        lease: int,
    ) -> None:
        self._kind = kind
        self._lease = lease
        self._url = url
        self._directory = directory
        self.registry = registry
        self.by_ring = by_ring
        self.settings = Settings(data=directory)
        self.credentials = operator_credentials(self.settings)
        self.cache = ServiceCache(by_ring, "default", timeout=SECONDS, credentials=self.credentials)
        self.blindly = CacheServiceStub(as_operator(blindly, self.settings))
        self._blind_channel = blindly
        self.processes: list[ServiceProcess] = []

    async def start(self, number: int = 1) -> None:
        """Start so many more processes; return when all callers are connected to them."""
        settings = {"REGISTRY_URL": self._url, "SHOP_LEASE_TTL": str(self._lease), "SHOP_PROPAGATION": "0.1"}
        settings |= {"SHOP_DATA": str(self._directory), "SHOP_GRACE": "2"}
        started = [
            self._kind(SERVICE, self._directory / secrets.token_hex(4), {**settings, "SHOP_LOG_LEVEL": "info"})
            for _ in range(number)
        ]
        self.processes += started
        for process in started:
            process.directory.mkdir()
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in started))
        await self.connected(len(self.processes))

    async def connected(self, number: int) -> None:
        """Return when all callers are connected to so many."""
        await until(lambda: {len(self.by_ring.instances), len(self._blind_channel.instances)} == {number})

    async def preload(self) -> None:
        """Set every key of `KEYS` to itself, and find that it is: each at its owner, and nowhere else.

        Processes that have just started may hear of themselves later than their callers do, and pass on until then what
        is theirs. It is forgotten where it came to, as promised, so it is set again.
        """
        async with asyncio.timeout(SECONDS):
            while True:
                for start in range(0, len(KEYS), BATCH):
                    await self.cache.multi_set([(key, key) for key in KEYS[start : start + BATCH]])
                missing = await self.missing()
                if not missing and await self.entries() == Counter((await self.owners()).values()):
                    return

    async def owners(self) -> dict[str, str]:
        """The id of the instance that has each of `KEYS`, by the registry."""
        ring = Ring([listing.instance for listing in await self.registry.list(SERVICE)])
        owners = {key: ring.owner("default", key) for key in KEYS}
        return {key: owner.id for key, owner in owners.items() if owner is not None}

    async def missing(self) -> set[str]:
        """Which of `KEYS` are missed; the others have their values."""
        missed: set[str] = set()
        for start in range(0, len(KEYS), BATCH):
            some = KEYS[start : start + BATCH]
            for key, value in zip(some, await self.cache.multi_get(some), strict=True):
                assert value in (key, None)
                if value is None:
                    missed.add(key)
        return missed

    async def entries(self) -> dict[str, int]:
        """How many values each instance has in `default`."""
        held: dict[str, int] = {}
        for listing in await self.registry.list(SERVICE):
            async with direct_channel(listing.instance) as channel:
                told = await CacheServiceStub(as_operator(channel, self.settings)).GetStats(
                    pb.GetStatsRequest(namespace="default")
                )
            held[told.instance_id] = told.namespaces[0].entries
        return held


@asynccontextmanager
async def open_shop(
    etcd: Etcd, directory: Path, kind: type[ServiceProcess] = Patient, lease: int = 60
) -> AsyncIterator[Shop]:
    """Three processes."""
    url = f"{etcd.url}/{secrets.token_hex(4)}"
    async with (
        grpc_registry.connect(url) as registry,
        ring_channel(registry) as by_ring,
        Channel(SERVICE, registry, policy="round_robin", outlier_detection=None) as blindly,
    ):
        shop = Shop(url, directory, registry, by_ring, blindly, kind, lease)
        try:
            await shop.start(PROCESSES)
            yield shop
        finally:
            for process in shop.processes:
                process.kill()


@pytest.fixture
async def shop(shared_etcd: Etcd, tmp_path: Path) -> AsyncIterator[Shop]:
    """Three processes that are patient, and lose nothing while this machine stands still."""
    async with open_shop(shared_etcd, tmp_path) as shop:
        yield shop


@asynccontextmanager
async def under(*kinds: Work, each: int = 3) -> AsyncIterator[list[int]]:
    """Do all kinds of work again and again meanwhile; what one of them raises is raised. Yields how much is done."""
    done, going = [0], True

    async def work(kind: Work, rng: random.Random) -> None:
        while going:
            await kind(rng)
            done[0] += 1

    async with asyncio.TaskGroup() as group:
        for number, kind in enumerate(kinds * each):
            group.create_task(work(kind, random.Random(number)))
        try:
            yield done
        finally:
            going = False


def load(shop: Shop) -> tuple[Work, ...]:
    """Gets of what was set, and gets and sets of other keys; by the ring, and without it."""

    async def get(rng: random.Random) -> None:
        key = rng.choice(KEYS)
        assert await shop.cache.get(key) in (key, None)

    async def set_(rng: random.Random) -> None:
        await shop.cache.set(f"hot/{rng.randrange(500)}", rng.random())

    async def get_blindly(rng: random.Random) -> None:
        key = rng.choice(KEYS)
        response = await shop.blindly.Get(pb.GetRequest(namespace="default", key=key), timeout=SECONDS)
        assert response.entry.value in (b"", f'"{key}"'.encode())

    async def set_blindly(rng: random.Random) -> None:
        request = pb.SetRequest(namespace="default", key=f"warm/{rng.randrange(500)}", value=rng.randbytes(20))
        await shop.blindly.Set(request, timeout=SECONDS)

    return get, set_, get_blindly, set_blindly


async def test_an_instance_that_joins_under_load_takes_its_share(shop: Shop) -> None:
    """At most 1.5 times its fair share of 20,000 keys moves, nobody keeps what has moved, and no call fails."""
    await shop.preload()
    before = await shop.owners()
    async with under(*load(shop)) as done:
        await until(lambda: done[0] >= 200)
        await shop.start()
        count = done[0]
        await until(lambda: done[0] >= count + 500)
    after = await shop.owners()
    moved = {key for key in KEYS if after[key] != before[key]}
    async with asyncio.timeout(SECONDS):
        while (missing := await shop.missing()) != moved:
            assert missing < moved  # the newcomer is the last to hear that it is there
    fair = len(KEYS) / len(shop.processes)
    assert 0.5 * fair < len(moved) <= 1.5 * fair
    for namespace in ("hot", "warm"):
        for number in range(500):
            await shop.cache.delete(f"{namespace}/{number}")
    async with asyncio.timeout(SECONDS):
        while sum((await shop.entries()).values()) != len(KEYS) - len(moved):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_killed_instance_is_missed_and_no_more(shop: Shop) -> None:
    """Its keys are missed, and set anew elsewhere at once; no call of a client that knows the ring fails."""
    await shop.preload()
    get, set_, *_ = load(shop)
    async with under(get, set_) as done:
        await until(lambda: done[0] >= 200)
        shop.processes.pop().kill()
        before = done[0]
        await until(lambda: done[0] >= before + 500)
    lost = await shop.missing()
    assert 0.5 < len(lost) / (len(KEYS) / PROCESSES) < 1.5
    some = sorted(lost)[:BATCH]
    await shop.cache.multi_set([(key, key) for key in some])
    assert await shop.cache.multi_get(some) == some
    await shop.start()
    assert (await shop.missing()) >= lost - set(some)


async def test_what_a_process_had_when_it_stood_still_is_gone(shared_etcd: Etcd, tmp_path: Path) -> None:
    """A process that was frozen for longer than its lease, while others had its keys, finds none of its old values."""
    # Longer than this machine may stand still: the others are to lose nothing meanwhile.
    async with open_shop(shared_etcd, tmp_path, lease=8) as shop:
        await what_a_frozen_process_had_is_gone(shop)


async def what_a_frozen_process_had_is_gone(shop: Shop) -> None:
    await shop.preload()
    frozen = shop.processes[-1]
    others = await shop.entries()
    frozen.pause()
    try:
        await shop.connected(PROCESSES - 1)
        lost = await shop.missing()
        assert 0.5 < len(lost) / (len(KEYS) / PROCESSES) < 1.5
        await shop.cache.multi_set([(key, "new") for key in sorted(lost)[::2]])
    finally:
        frozen.resume()
    async with asyncio.timeout(SECONDS):
        while len(shop.by_ring.instances) < PROCESSES:
            assert set(await shop.cache.multi_get(sorted(lost)[:BATCH])) <= {"new", None}
            await asyncio.sleep(0.01)
    await shop.connected(PROCESSES)
    assert set(await shop.cache.multi_get(sorted(lost)[:BATCH])) <= {"new", None}
    assert sum((await shop.entries()).values()) < sum(others.values())


async def test_an_instance_that_does_not_answer_costs_its_own_keys(shared_etcd: Etcd, tmp_path: Path) -> None:
    """The others are found in time; one of its own is `CacheUnavailable` to who asks it, a miss to who asks others."""
    async with open_shop(shared_etcd, tmp_path, ServiceProcess) as shop:
        await a_silent_instance_costs_its_own_keys(shop)


async def a_silent_instance_costs_its_own_keys(shop: Shop) -> None:
    await shop.preload()
    cache = ServiceCache(shop.by_ring, "default", timeout=5, credentials=shop.credentials)
    listed = await shop.registry.list(SERVICE)
    hasty = ServiceCache(shop.by_ring, "default", timeout=1, credentials=shop.credentials)
    silent = shop.processes[-1]
    silent.pause()
    try:
        found = await cache.multi_get(KEYS[:900])
        missed = [key for key, value in zip(KEYS, found, strict=False) if value is None]
        assert 150 < len(missed) < 450
        with pytest.raises(CacheUnavailable, match=r"DEADLINE_EXCEEDED|no answer within 1 s"):
            await hasty.get(missed[0])
        asked = [asyncio.create_task(direct_get(shop, one.instance, missed[0])) for one in listed]
        async with asyncio.timeout(SECONDS), measured() as elapsed:
            told = [await answer for answer in islice(asyncio.as_completed(asked), PROCESSES - 1)]
            assert elapsed.seconds < 4.5  # they give it a second, not the five of other calls; they may stand still too
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)
    finally:
        silent.resume()
    assert told == [False] * (PROCESSES - 1)


async def direct_get(shop: Shop, instance: Instance, key: str) -> bool:
    """Whether an instance finds a key."""
    async with direct_channel(instance) as channel:
        stub = CacheServiceStub(as_operator(channel, shop.settings))
        response = await stub.Get(pb.GetRequest(namespace="default", key=key), timeout=SECONDS)
    return bool(response.found)
