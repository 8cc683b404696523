"""The cache over the wire: a real server with all interceptors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from grpc_registry import connect
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub, add_CacheServiceServicer_to_server
from shop_services.cache import wiring
from shop_services.cache.memory import MemoryValues
from shop_services.cache.namespaces import Namespaces
from shop_services.cache.redis import RedisValues
from shop_services.cache.servicer import CacheServicer
from shop_services.cache.wiring import wire
from shop_services.caching.ring import ROUTED_HEADER
from shop_services.runtime.app import App
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from tests.servers import Etcd, free_port
from tests.servers.service import ServiceProcess

MIB = 1024 * 1024
YEAR = 365 * 24 * 3600
ONE = [pb.BatchSetItem(key="one")]
HUGE = [*ONE, pb.BatchSetItem(key="huge", value=b"x" * (MIB + 1))]
NAMESPACES = "n=lru;other=fifo,entries=5,ttl=60;small=lfu,bytes=100"


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[CacheServiceStub]:
    """An instance called `c1` that keeps 10 values of a namespace."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect("memory://"))
        given: dict[str, Any] = {"registry_url": "memory://", "cache_namespaces": NAMESPACES, "cache_max_entries": 10}
        given |= {"instance_id": "c1", "data": Path(stack.enter_context(TemporaryDirectory()))}
        given["lease_ttl"] = 3600  # who stands still for most of it holds all values for lost
        app = await stack.enter_async_context(wire(Settings(**given | settings), registry))
        yield CacheServiceStub(await stack.enter_async_context(running(app)))


@pytest.fixture
async def cache() -> AsyncIterator[CacheServiceStub]:
    """An instance in memory."""
    async with serving() as stub:
        yield stub


def put(key: str, value: bytes = b"1", **fields: Any) -> pb.SetRequest:
    return pb.SetRequest(**({"namespace": "n", "key": key, "value": value} | fields))


def swap(key: str, expected: int, value: bytes = b"1", **fields: Any) -> pb.CompareAndSetRequest:
    given: dict[str, Any] = {"namespace": "n", "key": key, "value": value, "expected_version": expected}
    return pb.CompareAndSetRequest(**(given | fields))


def violations(refused: grpc.aio.AioRpcError) -> dict[str, str]:
    """What is wrong with each field, of an INVALID_ARGUMENT."""
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(refused)  # type: ignore[arg-type]  # it reads what an AioRpcError has
    assert status is not None
    bad = BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    return {violation.field: violation.description for violation in bad.field_violations}


def app_of(servicer: CacheServicer) -> App:
    return App("cache", {"cache": lambda server: add_CacheServiceServicer_to_server(servicer, server)})


async def get(cache: CacheServiceStub, key: str, namespace: str = "n") -> bytes | None:
    response: pb.GetResponse = await cache.Get(pb.GetRequest(namespace=namespace, key=key))
    return response.entry.value if response.found else None


async def stats(cache: CacheServiceStub, namespace: str = "") -> dict[str, pb.NamespaceStats]:
    response: pb.GetStatsResponse = await cache.GetStats(pb.GetStatsRequest(namespace=namespace))
    return {counts.namespace: counts for counts in response.namespaces}


async def untouched(cache: CacheServiceStub) -> bool:
    """Whether nothing was ever kept, found or missed."""
    return not any(s.sets or s.hits or s.misses or s.deletes for s in (await stats(cache)).values())


async def test_a_value_comes_back_as_it_was_set(cache: CacheServiceStub) -> None:
    """With its key and version; without a TTL it has no time to expire."""
    version = (await cache.Set(put("a/b ü", b"\0\xff"))).version
    response = await cache.Get(pb.GetRequest(namespace="n", key="a/b ü"))
    assert response == pb.GetResponse(found=True, entry=pb.Entry(key="a/b ü", value=b"\0\xff", version=version))
    assert not response.entry.HasField("expire_time")


async def test_a_miss_is_an_answer(cache: CacheServiceStub) -> None:
    """Nothing found is not an error, and another namespace's value is not found."""
    await cache.Set(put("k"))
    assert await cache.Get(pb.GetRequest(namespace="other", key="k")) == pb.GetResponse()


async def test_versions_grow_with_each_set_and_over_a_delete(cache: CacheServiceStub) -> None:
    """So a version names one value for ever."""
    versions = [(await cache.Set(put("k"))).version for _ in range(2)]
    await cache.Delete(pb.DeleteRequest(namespace="n", key="k"))
    versions.append((await cache.Set(put("k"))).version)
    assert versions == sorted(set(versions))


async def test_a_value_expires_when_it_said(cache: CacheServiceStub) -> None:
    """`expire_time` is the time of the set plus the TTL, and at that time the value is gone."""
    now = 1_700_000_000_000_000_000
    namespaces = Namespaces.parse("n=lru", max_entries=10, max_bytes=MIB)
    servicer = CacheServicer(namespaces, MemoryValues(namespaces.values(), lambda: now), "c2")
    async with running(app_of(servicer)) as channel:
        virtual = CacheServiceStub(channel)
        await virtual.Set(put("k", ttl=Duration(seconds=1, nanos=500)))
        entry = (await virtual.Get(pb.GetRequest(namespace="n", key="k"))).entry
        assert entry.expire_time.ToNanoseconds() == now + 1_000_000_500
        now += 1_000_000_500
        assert await get(virtual, "k") is None


async def test_delete_and_clear_tell_what_they_forgot(cache: CacheServiceStub) -> None:
    """A second delete finds nothing; clearing leaves other namespaces alone."""
    for key in "abc":
        await cache.Set(put(key))
    await cache.Set(put("a", namespace="other"))
    delete = pb.DeleteRequest(namespace="n", key="a")
    assert [(await cache.Delete(delete)).deleted for _ in range(2)] == [True, False]
    assert [(await cache.Clear(pb.ClearRequest(namespace="n"))).removed for _ in range(2)] == [2, 0]
    assert await get(cache, "a", "other") == b"1"


async def test_batches_keep_the_order_of_the_request(cache: CacheServiceStub) -> None:
    """Versions, values and missing keys are in the order in which they were asked for."""
    items = [pb.BatchSetItem(key=key, value=key.encode()) for key in ("b", "a", "c")]
    response = await cache.BatchSet(pb.BatchSetRequest(namespace="n", items=items, ttl=Duration(seconds=60)))
    assert list(response.versions) == sorted(response.versions)
    found = await cache.BatchGet(pb.BatchGetRequest(namespace="n", keys=["z", "c", "y", "b"]))
    assert [(e.key, e.value, e.version) for e in found.entries] == [
        ("c", b"c", response.versions[2]),
        ("b", b"b", response.versions[0]),
    ]
    assert all(entry.HasField("expire_time") for entry in found.entries)
    assert list(found.missing_keys) == ["z", "y"]


async def test_what_was_not_used_for_longest_makes_room(cache: CacheServiceStub) -> None:
    """The eleventh value evicts one, as the setting says, and the stats tell of it."""
    for i in range(10):
        await cache.Set(put(f"k{i}"))
    assert await get(cache, "k0") == b"1"
    await cache.Set(put("k10"))
    assert (await get(cache, "k1"), await get(cache, "k0")) == (None, b"1")
    assert (await stats(cache))["n"].evictions == 1


async def test_stats_tell_what_the_instance_did(cache: CacheServiceStub) -> None:
    """By namespace, ordered by name, or of one alone; and who answers."""
    await cache.Set(put("k", b"12345"))
    await cache.Set(put("k", b"123"))
    await cache.Set(put("gone"))
    await cache.Delete(pb.DeleteRequest(namespace="n", key="gone"))
    await cache.BatchGet(pb.BatchGetRequest(namespace="n", keys=["k", "gone"]))
    await get(cache, "k", "other")
    counts = pb.NamespaceStats(namespace="n", entries=1, bytes=4, hits=1, misses=1, sets=3, deletes=1)
    counts.MergeFrom(pb.NamespaceStats(policy=pb.EVICTION_POLICY_LRU, max_entries=10, max_bytes=256 * MIB))
    other = pb.NamespaceStats(namespace="other", misses=1, policy=pb.EVICTION_POLICY_FIFO, max_entries=5)
    other.MergeFrom(pb.NamespaceStats(max_bytes=256 * MIB, default_ttl=Duration(seconds=60)))
    small = pb.NamespaceStats(namespace="small", policy=pb.EVICTION_POLICY_LFU, max_entries=10, max_bytes=100)
    assert await stats(cache) == {"n": counts, "other": other, "small": small}
    assert list(await stats(cache)) == ["n", "other", "small"]
    assert await stats(cache, "n") == {"n": counts}
    assert (await cache.GetStats(pb.GetStatsRequest())).instance_id == "c1"


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("Get", pb.GetRequest(key="k"), "namespace"),
        ("Get", pb.GetRequest(namespace="a/b", key="k"), "namespace"),
        ("Get", pb.GetRequest(namespace="n"), "key"),
        ("Delete", pb.DeleteRequest(namespace="n", key="ü" * 513), "key"),
        ("Set", put("k", b"x" * (MIB + 1)), "value"),
        ("Set", put("k", ttl=Duration()), "ttl"),
        ("Set", put("k", ttl=Duration(seconds=-1)), "ttl"),
        ("Set", put("k", ttl=Duration(seconds=YEAR, nanos=1)), "ttl"),
        ("Set", put("x" * 1025), "key"),
        ("CompareAndSet", swap("", 0), "key"),
        ("CompareAndSet", swap("k", -1), "expected_version"),
        ("CompareAndSet", swap("k", 0, b"x" * (MIB + 1)), "value"),
        ("CompareAndSet", swap("k", 0, ttl=Duration(nanos=-1)), "ttl"),
        ("Clear", pb.ClearRequest(), "namespace"),
        ("BatchGet", pb.BatchGetRequest(namespace="n"), "keys"),
        ("BatchGet", pb.BatchGetRequest(namespace="n", keys=["k", "k"]), "keys"),
        ("BatchGet", pb.BatchGetRequest(namespace="n", keys=["k", ""]), "keys[1]"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=[pb.BatchSetItem(key="k")] * 2), "items"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=[pb.BatchSetItem()]), "items[0].key"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=ONE, ttl=Duration()), "ttl"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=ONE, ttl=Duration(seconds=-1)), "ttl"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=ONE, ttl=Duration(seconds=10**10)), "ttl"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=HUGE), "items[1].value"),
        ("BatchDelete", pb.BatchDeleteRequest(namespace="n"), "keys"),
        ("BatchDelete", pb.BatchDeleteRequest(namespace="n", keys=["k", "x" * 1025]), "keys[1]"),
        ("GetStats", pb.GetStatsRequest(namespace="?"), "namespace"),
    ],
)
async def test_a_broken_field_is_named(cache: CacheServiceStub, method: str, request_: Message, field: str) -> None:
    """Whatever breaks a rule of the proto is INVALID_ARGUMENT with the field's path, and nothing is done."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(cache, method)(request_)
    assert list(violations(refused.value)) == [field]
    assert await untouched(cache)


UNKNOWN: Any = {"namespace": "catalogue"}


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Get", pb.GetRequest(**UNKNOWN, key="k")),
        ("Set", put("k", **UNKNOWN)),
        ("CompareAndSet", swap("k", 0, **UNKNOWN)),
        ("Delete", pb.DeleteRequest(**UNKNOWN, key="k")),
        ("Clear", pb.ClearRequest(**UNKNOWN)),
        ("BatchGet", pb.BatchGetRequest(**UNKNOWN, keys=["k"])),
        ("BatchSet", pb.BatchSetRequest(**UNKNOWN, items=ONE)),
        ("BatchDelete", pb.BatchDeleteRequest(**UNKNOWN, keys=["k"])),
        ("GetStats", pb.GetStatsRequest(**UNKNOWN)),
    ],
)
async def test_an_unknown_namespace_is_named(cache: CacheServiceStub, method: str, request_: Message) -> None:
    """The error says which name there is not, and which there are."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(cache, method)(request_)
    why = "there is no namespace 'catalogue'; there are n, other, small"
    assert violations(refused.value) == {"namespace": why}


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("Set", put("k", b"x" * 100, namespace="small"), "value"),
        ("CompareAndSet", swap("k", 0, b"x" * 100, namespace="small"), "value"),
        (
            "BatchSet",
            pb.BatchSetRequest(namespace="small", items=[*ONE, pb.BatchSetItem(key="k", value=b"x" * 100)]),
            "items[1].value",
        ),
    ],
)
async def test_an_entry_larger_than_its_namespace_is_named(
    cache: CacheServiceStub, method: str, request_: Message, field: str
) -> None:
    """With its size, and the namespace's limit; nothing is kept, not even what stood before it in a batch."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(cache, method)(request_)
    why = "takes 101 bytes with its key; the namespace 'small' keeps at most 100"
    assert violations(refused.value) == {field: why}
    assert await untouched(cache)


async def test_each_namespace_has_its_policy_and_limits(cache: CacheServiceStub) -> None:
    """In one the oldest makes room although it was used, in another the least often used one, by bytes."""
    for number in range(6):
        await cache.Set(put(f"k{number}", namespace="other"))
        await get(cache, "k0", "other")
    assert await get(cache, "k0", "other") is None
    await cache.Set(put("often", b"x" * 45, namespace="small"))
    await get(cache, "often", "small")
    await cache.Set(put("once", b"x" * 40, namespace="small"))
    await cache.Set(put("new", b"x" * 40, namespace="small"))
    kept = [await get(cache, key, "small") is not None for key in ("often", "once", "new")]
    assert kept == [True, False, True]


async def test_a_namespace_gives_its_ttl_to_values_without_one(cache: CacheServiceStub) -> None:
    """To those of a set, a swap and a batch; a TTL in the request goes before."""
    await cache.Set(put("set", namespace="other"))
    await cache.CompareAndSet(swap("swapped", 0, namespace="other"))
    await cache.BatchSet(pb.BatchSetRequest(namespace="other", items=[pb.BatchSetItem(key="batch")]))
    await cache.Set(put("own", namespace="other", ttl=Duration(seconds=600)))
    found = await cache.BatchGet(pb.BatchGetRequest(namespace="other", keys=["set", "swapped", "batch", "own"]))
    left = [entry.expire_time.ToNanoseconds() / 1e9 - time.time() for entry in found.entries]
    assert all(50 < seconds <= 61 for seconds in left[:3])
    assert 590 < left[3] <= 601


async def test_a_swap_needs_the_version_that_is_there(cache: CacheServiceStub) -> None:
    """0 is for none; the answer has the version that is there, whether it swapped or not."""
    created = await cache.CompareAndSet(swap("k", 0, b"1"))
    assert created.swapped
    assert created.version > 0
    for expected in (0, created.version + 1):
        refused = await cache.CompareAndSet(swap("k", expected, b"2"))
        assert refused == pb.CompareAndSetResponse(swapped=False, version=created.version)
    replaced = await cache.CompareAndSet(swap("k", created.version, b"3"))
    assert replaced.swapped
    assert replaced.version > created.version
    assert await get(cache, "k") == b"3"
    assert await cache.CompareAndSet(swap("none", 7)) == pb.CompareAndSetResponse()


async def test_a_batch_is_deleted(cache: CacheServiceStub) -> None:
    """It tells how many of the keys had a value."""
    await cache.BatchSet(pb.BatchSetRequest(namespace="n", items=[pb.BatchSetItem(key=key) for key in "abc"]))
    request = pb.BatchDeleteRequest(namespace="n", keys=["a", "z", "b"])
    assert [(await cache.BatchDelete(request)).removed for _ in range(2)] == [2, 0]
    assert (await stats(cache))["n"].entries == 1


async def test_a_routed_call_is_answered_by_the_instance_itself() -> None:
    """Any other call is answered from what all instances keep together; the counts are always the instance's own."""
    namespaces = Namespaces.parse("n=lru", max_entries=10, max_bytes=MIB)
    local, shared = (MemoryValues(namespaces.values(), time.time_ns) for _ in range(2))
    async with running(app_of(CacheServicer(namespaces, local, "c1", shared=shared))) as channel:
        stub = CacheServiceStub(channel)
        await stub.Set(put("k", b"local"), metadata=((ROUTED_HEADER, "1"),))
        await stub.Set(put("k", b"shared"))
        assert await get(stub, "k") == b"shared"
        found = await stub.Get(pb.GetRequest(namespace="n", key="k"), metadata=((ROUTED_HEADER, "1"),))
        assert found.entry.value == b"local"
        counts = (await stats(stub))["n"]
        assert (counts.entries, counts.hits) == (1, 1)


async def test_fronts_of_one_redis_keep_the_same_values(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CACHE_URL what one instance keeps another finds; its policy and limits are not ours, the default TTL is."""
    monkeypatch.setattr(wiring, "RedisValues", partial(RedisValues, bound=30))  # this machine may stand still
    async with serving(cache_url=redis_url) as one, serving(cache_url=redis_url, instance_id="c2") as other:
        version = (await one.Set(put("k", b"1", namespace="other", ttl=Duration(seconds=9)))).version
        assert (await other.CompareAndSet(swap("k", version, b"x" * MIB, namespace="other"))).swapped
        assert await get(one, "k", "other") == b"x" * MIB
        counts = pb.NamespaceStats(namespace="other", hits=1, sets=1, default_ttl=Duration(seconds=60))
        assert await stats(one, "other") == {"other": counts}
        found = await one.Get(pb.GetRequest(namespace="other", key="k"))
        assert 50 < found.entry.expire_time.ToNanoseconds() / 1e9 - time.time() <= 61


async def test_a_redis_that_is_away_is_a_miss_in_time() -> None:
    """The service starts without it; reads miss, and a write hears UNAVAILABLE, long before the usual deadlines."""
    async with serving(cache_url=f"redis://127.0.0.1:{free_port()}") as cache:
        assert not (await cache.Get(pb.GetRequest(namespace="n", key="k"), timeout=5)).found
        found = await cache.BatchGet(pb.BatchGetRequest(namespace="n", keys=["k", "l"]), timeout=5)
        assert found.missing_keys == ["k", "l"]
        with pytest.raises(grpc.aio.AioRpcError, match="the Redis behind the cache is not available") as refused:
            await cache.Set(put("k", b"1"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert list(await stats(cache)) == ["n", "other", "small"]


async def test_the_largest_value_fits(cache: CacheServiceStub) -> None:
    """1 MiB under a key of 1,024 bytes for 365 days."""
    key = "ü" * 512
    await cache.Set(put(key, b"x" * MIB, ttl=Duration(seconds=YEAR)))
    assert await get(cache, key) == b"x" * MIB


async def test_a_batch_beyond_the_message_limit_is_refused_clearly(cache: CacheServiceStub) -> None:
    """Setting too much at once fails before anything is kept; getting too much at once says what to do."""
    items = [pb.BatchSetItem(key=f"k{i}", value=b"x" * MIB) for i in range(4)]
    with pytest.raises(grpc.aio.AioRpcError, match=r"larger than max \(\d+ vs. 4194304\)") as refused:
        await cache.BatchSet(pb.BatchSetRequest(namespace="n", items=items))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await untouched(cache)
    for item in items:
        await cache.Set(put(item.key, item.value))
    keys = [item.key for item in items]
    with pytest.raises(grpc.aio.AioRpcError, match=r"4,194,304 bytes: ask for fewer keys") as refused:
        await cache.BatchGet(pb.BatchGetRequest(namespace="n", keys=keys))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len((await cache.BatchGet(pb.BatchGetRequest(namespace="n", keys=keys[:3]))).entries) == 3


async def test_an_answer_just_within_the_message_limit_arrives(cache: CacheServiceStub) -> None:
    """What the service lets pass, a client with gRPC's defaults takes."""
    sizes = [MIB, MIB, MIB, MIB - 200]
    for i, size in enumerate(sizes):
        await cache.Set(put(f"k{i}", b"x" * size, ttl=Duration(seconds=YEAR)))
    found = await cache.BatchGet(pb.BatchGetRequest(namespace="n", keys=[f"k{i}" for i in range(4)]))
    assert [len(entry.value) for entry in found.entries] == sizes


async def test_an_instance_is_known_by_its_id_in_the_registry(shared_etcd: Etcd, tmp_path: Path) -> None:
    """A real process answers with the id that `meshctl ls` shows, found through etcd and the balancer."""
    url = f"{shared_etcd.url}/{uuid4().hex}"
    settings = {"REGISTRY_URL": url, "SHOP_DATA": str(tmp_path), "SHOP_PROPAGATION": "0", "SHOP_LEASE_TTL": "60"}
    process = ServiceProcess("cache", tmp_path, settings)
    async with connect(url) as registry, operator_channel("cache", registry, Settings(data=tmp_path)) as channel:
        try:
            process.start()
            stub = CacheServiceStub(channel)
            await stub.Set(put("k", namespace="default"), wait_for_ready=True, timeout=30)
            answer = await stub.GetStats(pb.GetStatsRequest(), timeout=30)
            assert [listing.instance.id for listing in await registry.list("cache")] == [answer.instance_id]
        finally:
            process.stop()
