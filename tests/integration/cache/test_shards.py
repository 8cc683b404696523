"""Instances of the cache service as one cache: whoever is asked, the answer is the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import pytest

from grpc_registry import State
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.cache import kept
from shop_services.caching.backend import BytesSerializer
from shop_services.caching.errors import CacheError, CacheUnavailable
from shop_services.caching.ring import ROUTED_HEADER, Ring
from shop_services.caching.service import ServiceCache
from tests.integration.cache.cluster import Cluster, Member

SECONDS = 30
NEVER = 10**9
"""Looks after which what was kept for others is forgotten, so many that it is not."""
KEYS = [f"key/{number} ü" for number in range(200)]
ROUTED = [(ROUTED_HEADER, "1")]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three instances that know each other."""
    async with Cluster() as cluster:
        for name in "abc":
            await cluster.join(name)
        await cluster.agreed()
        yield cluster


async def put(stub: CacheServiceStub, key: str, value: bytes) -> None:
    await stub.Set(pb.SetRequest(namespace="n", key=key, value=value))


async def get(stub: CacheServiceStub, key: str, *, routed: bool = False) -> bytes | None:
    response = await stub.Get(pb.GetRequest(namespace="n", key=key), metadata=ROUTED if routed else None)
    return response.entry.value if response.found else None


async def entries(member: Member) -> int:
    response = await member.stub.GetStats(pb.GetStatsRequest(namespace="n"))
    return response.namespaces[0].entries


def owned_by(ring: Ring, instance_id: str) -> list[str]:
    """The keys of an instance."""
    owners = {key: ring.owner("n", key) for key in KEYS}
    return [key for key, owner in owners.items() if owner is not None and owner.id == instance_id]


async def test_whoever_is_asked_a_key_is_in_one_place(cluster: Cluster) -> None:
    """Every call works through every instance, on the one value there is, which its owner keeps and nobody else."""
    ring, (a, b, c) = await cluster.agreed(), cluster.members.values()
    for key in KEYS[:30]:
        await put(a.stub, key, b"1")
        assert [await get(member.stub, key) for member in (a, b, c)] == [b"1"] * 3
        owner = ring.owner("n", key)
        assert owner is not None
        kept = {member.instance.id: await get(member.stub, key, routed=True) for member in (a, b, c)}
        assert kept == {"a": None, "b": None, "c": None} | {owner.id: b"1"}
        found = (await b.stub.Get(pb.GetRequest(namespace="n", key=key))).entry
        swap = pb.CompareAndSetRequest(namespace="n", key=key, value=b"2", expected_version=found.version)
        swapped = await c.stub.CompareAndSet(swap)
        assert swapped.swapped
        assert swapped.version > found.version
        assert not (await a.stub.CompareAndSet(swap)).swapped
        assert (await c.stub.Delete(pb.DeleteRequest(namespace="n", key=key))).deleted
        assert [await get(member.stub, key) for member in (a, b, c)] == [None] * 3


async def test_a_batch_goes_to_its_owners(cluster: Cluster) -> None:
    """What one instance is asked to keep, find or forget at once, all have kept, found or forgotten; in their order."""
    a, b, c = cluster.members.values()
    items = [pb.BatchSetItem(key=key, value=key.encode()) for key in KEYS]
    versions = (await a.stub.BatchSet(pb.BatchSetRequest(namespace="n", items=items))).versions
    kept = [await entries(member) for member in (a, b, c)]
    assert sum(kept) == len(KEYS)
    assert min(kept) > len(KEYS) / 6
    asked = [*KEYS[::-1], "none", "nowhere"]
    found = await b.stub.BatchGet(pb.BatchGetRequest(namespace="n", keys=asked))
    assert [entry.key for entry in found.entries] == KEYS[::-1]
    assert [entry.value for entry in found.entries] == [key.encode() for key in KEYS[::-1]]
    assert [entry.version for entry in found.entries] == versions[::-1]
    assert list(found.missing_keys) == ["none", "nowhere"]
    assert (await c.stub.BatchDelete(pb.BatchDeleteRequest(namespace="n", keys=asked))).removed == len(KEYS)
    assert [await entries(member) for member in (a, b, c)] == [0, 0, 0]


async def test_a_time_to_live_is_passed_on(cluster: Cluster) -> None:
    """Whoever is asked tells the same time at which a value ends."""
    a, b, c = cluster.members.values()
    for key in KEYS[:10]:
        request = pb.SetRequest(namespace="n", key=key, value=b"1")
        request.ttl.FromSeconds(60)
        await a.stub.Set(request)
        ends = {
            (await one.stub.Get(pb.GetRequest(namespace="n", key=key))).entry.expire_time.ToNanoseconds()
            for one in (a, b, c)
        }
        assert len(ends) == 1
        assert ends != {0}


async def test_clearing_reaches_all(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace is cleared on every instance, a draining one too, and the others' namespaces are not."""
    monkeypatch.setattr(kept, "_QUIET_LOOKS", NEVER)  # so that it is the clearing that takes what the draining one has
    a, b, c = cluster.members.values()
    for namespace in ("n", "other"):
        items = [pb.BatchSetItem(key=key, value=b"1") for key in KEYS]
        await a.stub.BatchSet(pb.BatchSetRequest(namespace=namespace, items=items))
    assert (await b.stub.Clear(pb.ClearRequest(namespace="n"))).removed == len(KEYS)
    assert [await entries(member) for member in (a, b, c)] == [0, 0, 0]
    assert len((await c.stub.BatchGet(pb.BatchGetRequest(namespace="other", keys=KEYS))).entries) == len(KEYS)
    await cluster.set_state("c", State.DRAINING)
    await cluster.agreed()
    await c.stub.Set(pb.SetRequest(namespace="n", key="x", value=b"1"), metadata=ROUTED)
    await a.stub.Clear(pb.ClearRequest(namespace="n"))
    assert await get(c.stub, "x", routed=True) is None


async def test_too_much_for_one_answer_is_refused_by_whoever_is_asked(cluster: Cluster) -> None:
    """The error is the one that says what to do, also if what is too much is another's."""
    ring, (a, b, _) = await cluster.agreed(), cluster.members.values()
    keys = owned_by(ring, "b")[:5]
    for key in keys:
        await put(b.stub, key, b"x" * 1_000_000)
    with pytest.raises(grpc.aio.AioRpcError, match="ask for fewer keys at once") as refused:
        await a.stub.BatchGet(pb.BatchGetRequest(namespace="n", keys=keys))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_newcomer_knows_whose_a_key_is_from_its_first_call(cluster: Cluster) -> None:
    """It does not miss what others have, nor keep what is theirs, though it has hardly heard of them."""
    a, *_ = cluster.members.values()
    await a.stub.BatchSet(pb.BatchSetRequest(namespace="n", items=[pb.BatchSetItem(key=key) for key in KEYS]))
    newcomer = await cluster.join("d")
    found = await newcomer.stub.BatchGet(pb.BatchGetRequest(namespace="n", keys=KEYS))
    ring = await cluster.agreed()
    assert set(found.missing_keys) <= set(owned_by(ring, "d"))
    left = await newcomer.stub.BatchGet(pb.BatchGetRequest(namespace="n", keys=KEYS))
    assert set(left.missing_keys) == set(owned_by(ring, "d"))


async def test_a_draining_instance_passes_on_and_still_answers(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its share is the others' at once; a late caller that asks it in particular is still answered."""
    monkeypatch.setattr(kept, "_QUIET_LOOKS", NEVER)  # else what a late caller sets is forgotten a second later
    ring, (a, b, c) = await cluster.agreed(), cluster.members.values()
    mine = owned_by(ring, "a")
    for key in mine:
        await put(b.stub, key, b"1")
    await cluster.set_state("a", State.DRAINING)
    await cluster.agreed()
    for key in mine:
        assert [await get(member.stub, key) for member in (a, b, c)] == [None] * 3
        await put(a.stub, key, b"2")
        assert [await get(member.stub, key) for member in (a, b, c)] == [b"2"] * 3
        await a.stub.Set(pb.SetRequest(namespace="n", key=key, value=b"3"), metadata=ROUTED)
        assert await get(a.stub, key, routed=True) == b"3"


async def test_what_an_instance_had_does_not_come_back_with_it(cluster: Cluster) -> None:
    """An instance that goes and comes back has none of the values that others have replaced or deleted meanwhile."""
    ring, (a, b, c) = await cluster.agreed(), cluster.members.values()
    mine = owned_by(ring, "a")
    for key in mine:
        await put(c.stub, key, b"old")
    await cluster.set_state("a", State.DRAINING)
    await cluster.agreed()
    for key in mine[::2]:
        await put(b.stub, key, b"new")
    for member in (a, b, c):  # also what somebody has been told to keep for others
        await member.stub.Set(pb.SetRequest(namespace="n", key=mine[0], value=b"guest"), metadata=ROUTED)
    await put(b.stub, mine[0], b"new")
    await cluster.set_state("a", State.SERVING)
    await cluster.agreed()
    for key in mine:
        assert [await get(member.stub, key) for member in (a, b, c)] == [None] * 3
        assert [await get(member.stub, key, routed=True) for member in (a, b, c)] == [None] * 3


async def test_what_was_kept_for_others_is_forgotten(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after a change, when all must know of it, an instance has its own values and no others."""
    monkeypatch.setattr(kept, "_QUIET_LOOKS", 15)  # however busy this machine is, what follows comes before them
    a, b, c = cluster.members.values()
    for state in (State.DRAINING, State.SERVING):
        await cluster.set_state("c", state)
        await cluster.agreed()
    for member in (a, b, c):
        await member.stub.Set(pb.SetRequest(namespace="n", key="k", value=b"1"), metadata=ROUTED)
    async with asyncio.timeout(SECONDS):
        while [await entries(member) for member in (a, b, c)].count(1) > 1:  # noqa: ASYNC110 - nothing to await
            await asyncio.sleep(0.05)
    assert [await get(member.stub, "k") for member in (a, b, c)] == [b"1"] * 3


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_old_is_found_whoever_comes_and_goes(seed: int) -> None:
    """Through any number of changes a value that is found, by whomever, is the last that was set."""
    rng = random.Random(seed)
    latest: dict[str, bytes | None] = {}
    async with asyncio.timeout(4 * SECONDS), Cluster() as cluster:
        for name in "abc":
            await cluster.join(name)
        hits = 0
        for step in range(12):
            await cluster.agreed()
            members = list(cluster.members.values())
            stubs = [member.stub for member in members]
            found = [(await stub.BatchGet(pb.BatchGetRequest(namespace="n", keys=KEYS))).entries for stub in stubs]
            for each in found:
                assert {entry.key: entry.value for entry in each}.items() <= latest.items()
                hits += len(each)
            for key in rng.sample(KEYS, 100):
                stub = rng.choice(stubs)
                if rng.random() < 0.3:
                    latest[key] = None
                    await stub.Delete(pb.DeleteRequest(namespace="n", key=key))
                else:
                    latest[key] = f"{key} {step}".encode()
                    await put(stub, key, latest[key] or b"")
            match rng.choice(["join", "leave", "drain", "undrain", "flicker"]):
                case "join" if len(members) < 5:
                    await cluster.join(f"i{step}")
                case "leave" if len(members) > 2:
                    await cluster.leave(rng.choice(members).instance.id)
                case "drain":
                    await cluster.set_state(rng.choice(members).instance.id, State.DRAINING)
                case "undrain":
                    for member in members:
                        await cluster.set_state(member.instance.id, State.SERVING)
                case _:
                    one = rng.choice(members).instance.id
                    await cluster.set_state(one, State.DRAINING)
                    await asyncio.sleep(rng.random() / 50)
                    await cluster.set_state(one, State.SERVING)
        assert hits > 0


async def test_the_client_goes_to_the_owner(cluster: Cluster) -> None:
    """Nothing that a client asks for has to be passed on; several keys are one call to each owner."""
    ring = await cluster.agreed()
    async with cluster.channel() as channel:
        cache = ServiceCache(channel, "n", timeout=SECONDS, credentials=cluster.credentials)
        assert await cache.multi_set([(key, key) for key in KEYS]) is True
        assert await cache.multi_get([*KEYS, "none"]) == [*KEYS, None]
        for name, member in cluster.members.items():
            counts = (await member.stub.GetStats(pb.GetStatsRequest(namespace="n"))).namespaces[0]
            mine = len(owned_by(ring, name))
            assert counts.entries == counts.sets == counts.hits == mine
        await cache.clear()
        assert await cache.multi_get(KEYS) == [None] * len(KEYS)


async def test_what_is_too_much_for_one_message_goes_in_several(cluster: Cluster) -> None:
    """A client keeps and finds as many large values, and as many keys, as it likes."""
    async with cluster.channel() as channel:
        cache = ServiceCache(
            channel, "n", serializer=BytesSerializer(), timeout=SECONDS, credentials=cluster.credentials
        )
        large = [(key, key.encode() + b"x" * 900_000) for key in KEYS[:20]]
        await cache.multi_set(large)
        assert await cache.multi_get([key for key, _ in large]) == [value for _, value in large]
        many = [(f"many/{number}", b"%d" % number) for number in range(7000)]
        await cache.multi_set(many)
        assert await cache.multi_get([key for key, _ in many]) == [value for _, value in many]


async def test_what_the_service_refuses_is_named(cluster: Cluster) -> None:
    """A namespace that it does not have is the caller's mistake, and no outage."""
    async with cluster.channel() as channel:
        cache = ServiceCache(channel, "products", timeout=SECONDS, credentials=cluster.credentials)
        for work in (cache.get("k"), cache.set("k", 1), cache.multi_get(["k"]), cache.clear()):
            with pytest.raises(CacheError, match="namespace: there is no namespace 'products'; there are n, other"):
                await work


async def test_a_client_without_anybody_to_ask() -> None:
    """Reads and writes raise the one error that says that the cache is away."""
    async with asyncio.timeout(SECONDS), Cluster() as cluster, cluster.channel() as channel:
        cache = ServiceCache(channel, "n", timeout=SECONDS, credentials=cluster.credentials)
        for work in (cache.get("k"), cache.multi_get(["k", "l"]), cache.set("k", 1), cache.add("k", 1), cache.clear()):
            with pytest.raises(CacheUnavailable, match="no instance is registered"):
                await work
