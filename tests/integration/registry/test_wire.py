"""What goes over the wire to a real etcd."""

from __future__ import annotations

import asyncio
import http.client
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from random import Random

import pytest

from grpc_registry import Instance, RegistryUnavailable
from grpc_registry.etcd import kv, v3
from grpc_registry.etcd import lease as leases
from grpc_registry.etcd import watch as watching
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.failures import Compacted
from grpc_registry.etcd.kv import KeyRange, KeyValue
from grpc_registry.etcd.watch import Deleted, watch
from grpc_registry.url import EtcdUrl
from tests.integration.registry.conftest import Connect
from tests.servers import Etcd
from tests.watching import ids, until


def patient(address: str) -> Connection:
    """A connection whose calls may take any time."""
    connected = Connection(EtcdUrl((address,)), Random(1))
    connected.call = partial(connected.call, attempt_timeout=30)  # type: ignore[method-assign]
    return connected


@pytest.fixture
async def connection(shared_etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    """A connection to the shared etcd, to which a busy machine is not away."""
    monkeypatch.setattr(watching, "ATTEMPT_SECONDS", 30.0)
    connected = patient(shared_etcd.endpoints)
    yield connected
    await connected.close()


async def test_readers_of_a_service_share_one_watch(own: Connect, etcd: Etcd) -> None:
    """Ten readers of one service are one watcher to etcd, and none when they have left."""
    async with own() as registry:
        readers = [registry.watch("product") for _ in range(10)]
        for reader in readers:
            await anext(reader)
        await asyncio.to_thread(etcd.ctl, "put", "mesh/product/a", '{"Addr":"10.0.0.1:1"}')
        for reader in readers:  # by then each has its watch
            await anext(reader)
        assert await watchers(etcd, 1) == 1
        for reader in readers:
            await reader.aclose()
        assert await watchers(etcd, 0) == 0


async def test_readers_of_a_config_share_one_watch(own: Connect, etcd: Etcd) -> None:
    """Ten readers of one service's config are one watcher to etcd, and none when they have left."""
    async with own() as registry:
        readers = [registry.watch_config("product") for _ in range(10)]
        for reader in readers:
            await anext(reader)
        await asyncio.to_thread(etcd.ctl, "put", "mesh:config/product", "{}")
        for reader in readers:  # by then each has its watch
            await anext(reader)
        assert await watchers(etcd, 1) == 1
        for reader in readers:
            await reader.aclose()
        assert await watchers(etcd, 0) == 0


async def test_a_list_in_pages_is_of_one_revision(connection: Connection, prefix: str) -> None:
    """Pages together show every key once, as it was at the revision of the first page."""
    for number in range(7):
        await kv.put_if_unchanged(connection, f"{prefix}/{number}".encode(), b"old", lease=0, seen=0)
    keys = KeyRange.under(f"{prefix}/".encode())
    call, rewritten = connection.call, list[int | None]()

    async def call_and_write(*arguments: object, **options: object) -> object:
        answer = await call(*arguments, **options)  # type: ignore[arg-type]
        _, last = await kv_get(f"{prefix}/6".encode())
        await kv_put(last)
        return answer

    async def kv_get(key: bytes) -> tuple[int, KeyValue | None]:
        return await kv.get(pristine, key)

    async def kv_put(last: KeyValue | None) -> None:
        assert last is not None
        rewritten.append(await kv.put_if_unchanged(pristine, last.key, b"new", lease=0, seen=last.mod_revision))

    pristine = patient(connection._members[0].address)
    connection.call = call_and_write  # type: ignore[method-assign]
    revision, found = await kv.list_range(connection, keys, page=2)
    await pristine.close()
    assert [entry.key.decode()[-1] for entry in found] == list("0123456")
    assert {entry.value for entry in found} == {b"old"}
    assert rewritten[0] is not None
    assert found[-1].mod_revision <= revision < rewritten[0]  # others may write there, too: a lease that ends does


async def test_a_write_is_refused_where_someone_was_faster(connection: Connection, prefix: str) -> None:
    """A write based on what is no longer so does nothing; a deletion for another lease neither."""
    key = f"{prefix}/a".encode()
    first = await kv.put_if_unchanged(connection, key, b"1", lease=0, seen=0)
    assert first is not None
    assert await kv.put_if_unchanged(connection, key, b"2", lease=0, seen=0) is None
    assert await kv.put_if_unchanged(connection, key, b"2", lease=0, seen=first - 1) is None
    await kv.delete_if_leased(connection, key, lease=12345)
    _, entry = await kv.get(connection, key)
    assert entry == KeyValue(key, b"1", first, lease=0)


async def test_a_watch_gives_everything_from_its_revision_on(connection: Connection, prefix: str) -> None:
    """Events before the watch was opened and after it come in one order, without a gap, and of its range alone."""
    keys = KeyRange.under(f"{prefix}/".encode())
    key = f"{prefix}/a".encode()
    first = await kv.put_if_unchanged(connection, key, b"1", lease=0, seen=0)
    assert first is not None
    async with aclosing(watch(connection, keys, first)) as batches:
        events = list(await anext(batches))
        await kv.put_if_unchanged(connection, f"{prefix}x".encode(), b"", lease=0, seen=0)
        second = await kv.put_if_unchanged(connection, key, b"2", lease=0, seen=first)
        await kv.delete_if_leased(connection, key, lease=0)
        last, _ = await kv.get(connection, key)
        async with asyncio.timeout(30):
            while len(events) < 3:
                events += await anext(batches)
    assert second is not None
    third = events[2].mod_revision
    assert second < third <= last  # not always the next: a lease that ends writes there, too
    assert events == [KeyValue(key, b"1", first, 0), KeyValue(key, b"2", second, 0), Deleted(key, third)]


async def test_a_compacted_place_is_noticed(connection: Connection, shared_etcd: Etcd, prefix: str) -> None:
    """A watch from a revision that was compacted ends with `Compacted`, and a list pinned there too."""
    revision, _ = await kv.get(connection, b"x")
    written = await kv.put_if_unchanged(connection, f"{prefix}/a".encode(), b"1", lease=0, seen=0)
    await asyncio.to_thread(shared_etcd.ctl, "compact", str(written))
    with pytest.raises(Compacted, match=f"revisions before {written} were compacted"):
        async with aclosing(watch(connection, KeyRange.under(f"{prefix}/".encode()), revision)) as batches:
            await anext(batches)


async def test_a_watch_beyond_the_stores_revision_is_not_waited_for(connection: Connection) -> None:
    """A place that the store has not reached means that the store went back; waiting for it could take for ever."""
    revision, _ = await kv.get(connection, b"x")
    with pytest.raises(Compacted, match="the store went back"):
        async with aclosing(watch(connection, KeyRange(b"x"), revision + 100)) as batches:
            await anext(batches)


async def test_nobody_there_is_said_with_the_reason() -> None:
    """A refused connection is `RegistryUnavailable`, names each member and does not take long."""
    connection = Connection(EtcdUrl(("127.0.0.1:1", "127.0.0.1:2")), Random(1))
    async with asyncio.timeout(20):
        with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:[12]: .*refused.*; .*127\.0\.0\.1:[12]: "):
            await connection.call(v3.RANGE, v3.RangeRequest(key=b"x"), attempt_timeout=30)
    await connection.close()


async def test_a_periodic_list_repairs_what_no_event_told(own: Connect) -> None:
    """Even if a snapshot were wrong, the next periodic list puts it right."""
    async with own() as registry:
        registry._resolver._relist_seconds = 0.5  # type: ignore[attr-defined]
        async with aclosing(registry.watch("product")) as reader:
            await until(reader, lambda snapshot: ids(snapshot) == [])
            [shared] = registry._resolver._watches.values()  # type: ignore[attr-defined]
            shared.feed.folded(type(shared.feed.latest)("product", 1, (Instance("product", "10.0.0.1:1", id="ghost"),)))
            assert ids(await until(reader, lambda snapshot: ids(snapshot) == ["ghost"])) == ["ghost"]
            assert (await until(reader, lambda snapshot: ids(snapshot) == [])).relisted


async def test_closing_leaves_nothing_behind(shared: Connect, prefix: str) -> None:
    """After a busy registry is closed, no task of its runs any more."""

    def ours() -> list[str]:
        return sorted(name for task in asyncio.all_tasks() if (name := task.get_name()).startswith("grpc_registry"))

    async with shared() as registry:
        registration = registry.register(Instance("product", "10.0.0.1:1"))
        reader = registry.watch("product")
        await anext(reader)
        await registration.wait_registered()
        assert [name.rpartition("/")[0] or name for name in ours()] == [
            "grpc_registry lease",
            f"grpc_registry registration {prefix}/product",
            "grpc_registry watch product",
        ]
    assert ours() == []
    await reader.aclose()


async def watchers(server: Etcd, expected: int) -> int:
    """etcd's own count of watchers, which follows a change with a little delay."""
    count = -1
    for _ in range(1500):
        metrics = await asyncio.to_thread(_metrics, server._metrics_port)
        match = re.search(rb"^etcd_debugging_mvcc_watcher_total (\d+)", metrics, re.MULTILINE)
        assert match is not None
        if (count := int(match[1])) == expected:
            break
        await asyncio.sleep(0.02)
    return count


def _metrics(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


async def test_keys_are_deleted_only_from_their_own_lease(connection: Connection, prefix: str) -> None:
    """Of several keys, those of the lease go, and one that somebody else wrote meanwhile stays."""
    lease = await leases.grant(connection, 10)
    mine, other, theirs = (f"{prefix}/{name}".encode() for name in ("mine", "other", "theirs"))
    for deleted in ([mine, other], [mine, other, theirs]):
        await kv.put_if_unchanged(connection, mine, b"1", lease=lease.id, seen=0, puts={other: b"2"})
        await kv.put(connection, theirs, b"3")
        await kv.delete_if_leased(connection, *deleted, lease=lease.id)
        _, left = await kv.list_range(connection, KeyRange.under(f"{prefix}/".encode()))
        assert [(entry.key, entry.value) for entry in left] == [(theirs, b"3")]
