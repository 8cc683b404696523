"""The cache over the wire: a real server with all interceptors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from grpc_balancer import Channel
from grpc_registry import connect
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub, add_CacheServiceServicer_to_server
from shop_services.cache.domain import Limits
from shop_services.cache.servicer import CacheServicer
from shop_services.cache.store import Store
from shop_services.cache.wiring import wire
from shop_services.runtime.app import App
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from tests.servers import Etcd
from tests.servers.service import ServiceProcess

MIB = 1024 * 1024
YEAR = 365 * 24 * 3600


@pytest.fixture
async def cache() -> AsyncIterator[CacheServiceStub]:
    """An instance called `c1` that keeps 10 values."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect("memory://"))
        settings = Settings(registry_url="memory://", cache_max_entries=10, instance_id="c1")
        app = await stack.enter_async_context(wire(settings, registry))
        yield CacheServiceStub(await stack.enter_async_context(running(app)))


def put(key: str, value: bytes = b"1", **fields: Any) -> pb.SetRequest:
    return pb.SetRequest(**({"namespace": "n", "key": key, "value": value} | fields))


async def get(cache: CacheServiceStub, key: str, namespace: str = "n") -> bytes | None:
    response: pb.GetResponse = await cache.Get(pb.GetRequest(namespace=namespace, key=key))
    return response.entry.value if response.found else None


async def stats(cache: CacheServiceStub, namespace: str = "") -> dict[str, pb.NamespaceStats]:
    response: pb.GetStatsResponse = await cache.GetStats(pb.GetStatsRequest(namespace=namespace))
    return {counts.namespace: counts for counts in response.namespaces}


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
    store = Store(Limits(entries=10, bytes=MIB, namespaces=10), lambda: now)
    servicer = CacheServicer(store, "c2")
    app = App("cache", {"cache": lambda server: add_CacheServiceServicer_to_server(servicer, server)})
    async with running(app) as channel:
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
    await get(cache, "k", "a")
    counts = pb.NamespaceStats(namespace="n", entries=1, bytes=4, hits=1, misses=1, sets=3, deletes=1)
    assert await stats(cache) == {"a": pb.NamespaceStats(namespace="a", misses=1), "n": counts}
    assert list(await stats(cache)) == ["a", "n"]
    assert await stats(cache, "n") == {"n": counts}
    assert await stats(cache, "unknown") == {}
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
        ("Clear", pb.ClearRequest(), "namespace"),
        ("BatchGet", pb.BatchGetRequest(namespace="n"), "keys"),
        ("BatchGet", pb.BatchGetRequest(namespace="n", keys=["k", "k"]), "keys"),
        ("BatchGet", pb.BatchGetRequest(namespace="n", keys=["k", ""]), "keys[1]"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=[pb.BatchSetItem(key="k")] * 2), "items"),
        ("BatchSet", pb.BatchSetRequest(namespace="n", items=[pb.BatchSetItem()]), "items[0].key"),
        ("GetStats", pb.GetStatsRequest(namespace="?"), "namespace"),
    ],
)
async def test_a_broken_field_is_named(cache: CacheServiceStub, method: str, request_: Message, field: str) -> None:
    """Whatever breaks a rule of the proto is INVALID_ARGUMENT with the field's path, and nothing is done."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(cache, method)(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # it reads what an AioRpcError has
    assert status is not None
    bad = BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [violation.field for violation in bad.field_violations] == [field]
    assert await stats(cache) == {}


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
    assert await stats(cache) == {}
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
    process = ServiceProcess("cache", tmp_path, {"REGISTRY_URL": url, "SHOP_PROPAGATION": "0"})
    async with connect(url) as registry, Channel("cache", registry) as channel:
        try:
            process.start()
            stub = CacheServiceStub(channel)
            await stub.Set(put("k"), wait_for_ready=True, timeout=20)
            answer = await stub.GetStats(pb.GetStatsRequest(), timeout=20)
            assert [listing.instance.id for listing in await registry.list("cache")] == [answer.instance_id]
        finally:
            process.stop()
