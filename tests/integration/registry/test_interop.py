"""What stands in etcd, as `etcdctl` and other clients of its naming see and change it."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing

import pytest

from grpc_registry import Instance, InvalidInstance, State
from tests.integration.registry.conftest import Connect, crash, lease_of
from tests.servers import Etcd
from tests.unit.registry.etcd.golden_files import golden
from tests.watching import ids, until


async def test_etcdctl_shows_the_json_of_the_contract(shared: Connect, shared_etcd: Etcd, prefix: str) -> None:
    """The key, the value and the lease are what the design fixes; leaving deletes the key and ends the lease."""
    async with shared() as registry:
        instance = Instance("product", "10.0.0.1:50051", id="a1", zone="a", version="1.4.0", host="h1")
        await registry.register(instance).wait_registered()
        shown = await asyncio.to_thread(shared_etcd.ctl, "get", "--prefix", f"{prefix}/")
        assert shown == (
            f"{prefix}/product/a1\n"
            '{"Op":0,"Addr":"10.0.0.1:50051","Metadata":'
            '{"weight":100,"state":"serving","zone":"a","version":"1.4.0","host":"h1"}}\n'
        )
        lease = await lease_of(shared_etcd, f"{prefix}/product/a1")
        assert lease
        assert "granted with TTL(10s)" in await asyncio.to_thread(shared_etcd.ctl, "lease", "timetolive", f"{lease:x}")
    assert not await asyncio.to_thread(shared_etcd.ctl, "get", "--prefix", f"{prefix}/")
    assert f"{lease:x}" not in await asyncio.to_thread(shared_etcd.ctl, "lease", "list")


async def test_instances_of_other_clients_are_found(
    shared: Connect, shared_etcd: Etcd, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What Go's endpoint manager writes is found, and garbled values and keys beside it are skipped with a warning."""
    await put(shared_etcd, f"{prefix}/product/10.0.0.1:1", '{"Op":0,"Addr":"10.0.0.1:1","Metadata":null}')
    await put(shared_etcd, f"{prefix}/product/text", '{"Op":0,"Addr":"10.0.0.1:2","Metadata":"v1"}')
    await put(shared_etcd, f"{prefix}/product/garbled", "{")
    await put(shared_etcd, f"{prefix}/product/deep/er", '{"Addr":"10.0.0.1:3"}')
    async with shared() as registry:
        found = await registry.list("product")
        assert [(one.instance.id, one.instance.weight, one.lease_ttl) for one in found] == [
            ("10.0.0.1:1", 100, 0),
            ("text", 100, 0),
        ]
        async with aclosing(registry.watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == ["10.0.0.1:1", "text"])
            await put(shared_etcd, f"{prefix}/product/10.0.0.1:1", "now garbled too")
            await until(watch, lambda snapshot: ids(snapshot) == ["text"])
        with pytest.raises(InvalidInstance, match="product/text: its Metadata is not an object but text"):
            await registry.edit("product", "text", weight=5)
    by_reader = [record for record in caplog.records if record.name == "grpc_registry.etcd.reader"]
    warned = [record.getMessage().split(" ")[2] for record in by_reader if record.levelno >= logging.WARNING]
    assert sorted(warned) == sorted(
        repr(f"{prefix}/product/{key}") for key in ("10.0.0.1:1", "deep/er", "garbled", "text")
    )


async def test_an_edit_keeps_what_it_does_not_know(shared: Connect, shared_etcd: Etcd, prefix: str) -> None:
    """Unknown fields, inside the metadata and beside it, outlive `edit`."""
    await put(shared_etcd, f"{prefix}/product/a", '{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"x":[1]},"More":true}')
    async with shared() as registry:
        await registry.edit("product", "a", weight=5, state=State.DRAINING)
    value = await value_of(shared_etcd, f"{prefix}/product/a")
    assert value == {
        "Op": 0,
        "Addr": "10.0.0.1:1",
        "Metadata": {"x": [1], "weight": 5, "state": "draining"},
        "More": True,
    }


async def test_an_edit_by_hand_is_adopted_and_its_lease_restored(
    shared: Connect, shared_etcd: Etcd, prefix: str
) -> None:
    """`etcdctl put` on an instance drops its lease; the owner keeps the new weight and attaches its lease again."""
    key = f"{prefix}/product/a"
    async with shared() as registry, shared() as reader:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a", zone="z"))
        await registration.wait_registered()
        await put(shared_etcd, key, '{"Op":0,"Addr":"10.0.0.9:9","Metadata":{"weight":7,"canary":true}}')
        async with aclosing(reader.watch("product")) as watch:
            snapshot = await until(watch, lambda snapshot: snapshot.instances[0].zone == "z")
        assert snapshot.instances == (
            Instance("product", "10.0.0.1:1", id="a", zone="z", weight=7, metadata={"canary": True}),
        )
        assert await lease_of(shared_etcd, key)
        await registration.update(weight=8)
        assert registration.instance.metadata == {"canary": True}


async def test_a_garbled_instance_is_put_right_by_its_owner(shared: Connect, shared_etcd: Etcd, prefix: str) -> None:
    """An owner whose value was garbled writes it again."""
    async with shared() as registry, shared() as reader:
        await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        await put(shared_etcd, f"{prefix}/product/a", "garbled")
        async with aclosing(reader.watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == ["a"])


async def test_an_id_in_use_is_taken_over_and_then_left_alone(
    shared: Connect, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An instance that comes back under its id does not inherit that the earlier one drained; who was taken over, and
    closes later, deletes nothing."""
    async with shared() as reader, shared() as second:
        async with shared() as first:
            await first.register(Instance("product", "10.0.0.1:1", id="a", state=State.DRAINING)).wait_registered()
            await crash(first)
            await second.register(Instance("product", "10.0.0.1:2", id="a")).wait_registered()
            assert f"{prefix}/product/a was registered by 10.0.0.1:1: taking it over" in caplog.messages
        assert [one.instance.address for one in await reader.list()] == ["10.0.0.1:2"]
        assert [one.instance.state for one in await reader.list()] == [State.SERVING]


async def put(server: Etcd, key: str, value: str) -> None:
    await asyncio.to_thread(server.ctl, "put", key, value)


async def value_of(server: Etcd, key: str) -> object:
    return json.loads(await asyncio.to_thread(server.ctl, "get", key, "--print-value-only"))


async def test_other_clients_of_the_naming_find_us_and_we_find_them(
    shared: Connect, shared_etcd: Etcd, prefix: str
) -> None:
    """What stands in etcd is the golden file to the byte, and what Go's endpoint manager wrote, to the byte, is found,
    edited in place by an operator, and gone with its key."""
    async with shared() as registry:
        ours = Instance("product", "10.0.0.1:50051", id="a1", weight=200, zone="a", version="1.4.0", host="h1")
        await registry.register(ours).wait_registered()
        _, written = golden("etcd-naming")
        shown = await asyncio.to_thread(shared_etcd.ctl, "get", f"{prefix}/product/a1")
        assert shown.encode() == f"{prefix}/product/a1\n".encode() + written + b"\n"
        _, by_go = golden("etcd-naming-by-go")
        await put(shared_etcd, f"{prefix}/product/10.0.0.1:50051", by_go.decode())
        async with aclosing(registry.watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == ["10.0.0.1:50051", "a1"])
            await registry.edit("product", "10.0.0.1:50051", state=State.DRAINING)
            await until(watch, lambda snapshot: snapshot.instances[0].state is State.DRAINING)
            await asyncio.to_thread(shared_etcd.ctl, "del", f"{prefix}/product/10.0.0.1:50051")
            await until(watch, lambda snapshot: ids(snapshot) == ["a1"])
