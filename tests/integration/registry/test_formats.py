"""Instances in the formats of kratos and go-zero, written and found in a real etcd."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from typing import Any

import pytest

from grpc_registry import Instance, InvalidInstance, Kratos, RegistryClosed, State
from grpc_registry.etcd import lease as leases
from grpc_registry.etcd.registry import EtcdRegistry
from tests.integration.registry.conftest import Connect
from tests.servers import Etcd
from tests.watching import ids, until

BOTH = ("kratos", "go-zero")
OWN = "mesh/product/a1"
KRATOS = "/microservices/product/a1"


async def stored(server: Etcd) -> dict[str, dict[str, Any]]:
    """All that is in `server`, but its value as text: by key, as etcdctl's JSON has it."""
    shown = json.loads(await asyncio.to_thread(server.ctl, "get", "", "--from-key", "-w", "json"))
    return {text(kv["key"]): {**kv, "value": text(kv["value"])} for kv in shown.get("kvs", ())}


def text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


async def put(server: Etcd, key: str, value: str) -> None:
    await asyncio.to_thread(server.ctl, "put", key, value)


async def test_one_registration_stands_in_all_formats(own: Connect, etcd: Etcd) -> None:
    """Registering, an owner's change, a drain, its end and the removal are one transaction each over all formats, on
    one lease; an instance that drains is in our own only."""
    async with own(also=BOTH) as registry:
        assert isinstance(registry, EtcdRegistry)
        registration = registry.register(Instance("product", "10.0.0.1:50051", id="a1", version="1.4.0"))
        await registration.wait_registered()
        lease = registry._session.lease.id
        gozero = f"product/{lease}"
        found = await stored(etcd)
        assert found.keys() == {OWN, KRATOS, gozero}
        assert {entry["lease"] for entry in found.values()} == {lease}
        assert len({entry["mod_revision"] for entry in found.values()}) == 1
        assert found[gozero]["value"] == "10.0.0.1:50051"
        assert found[KRATOS]["value"] == (
            '{"id":"a1","name":"product","version":"1.4.0","metadata":{"weight":"100"},'
            '"endpoints":["grpc://10.0.0.1:50051"]}'
        )

        await registration.update(weight=7)
        found = await stored(etcd)
        assert len({entry["mod_revision"] for entry in found.values()}) == 1
        assert '"weight":"7"' in found[KRATOS]["value"]

        await registration.update(state=State.DRAINING)
        assert (await stored(etcd)).keys() == {OWN}
        await registration.update(state=State.SERVING)
        found = await stored(etcd)
        assert found.keys() == {OWN, KRATOS, gozero}
        assert len({entry["mod_revision"] for entry in found.values()}) == 1

        other = registry.register(Instance("order", "10.0.0.1:50052", id="b1"))
        await other.wait_registered()
        await registration.close()
        found = await stored(etcd)
        assert found.keys() == {"mesh/order/b1", "/microservices/order/b1", f"order/{lease}"}
    assert await stored(etcd) == {}


async def test_a_drain_that_was_not_written_leaves_nothing_behind(own: Connect, etcd: Etcd) -> None:
    """An instance that is removed before its drain is known is removed from all formats, though its lease lives on."""
    async with own(also=BOTH) as registry:
        registration = registry.register(Instance("product", "10.0.0.1:50051", id="a1"))
        await registration.wait_registered()
        other = registry.register(Instance("order", "10.0.0.1:50052", id="b1"))
        await other.wait_registered()
        draining = asyncio.create_task(registration.update(state=State.DRAINING))
        await asyncio.sleep(0)  # it is wanted from here on, and not written
        await registration.close()
        await asyncio.gather(draining, return_exceptions=True)
        assert {key.split("/")[-2] for key in await stored(etcd)} == {"order"}


async def test_an_edit_from_outside_reaches_all_formats(own: Connect, etcd: Etcd) -> None:
    """`meshctl weight` and `meshctl drain`, by somebody who knows no other formats, are followed in them."""
    async with own(also=BOTH) as registry, own() as operator:
        await registry.register(Instance("product", "10.0.0.1:50051", id="a1")).wait_registered()
        async with aclosing(registry.in_format("kratos").watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == ["a1"])
            await operator.edit("product", "a1", weight=7)
            await until(watch, lambda snapshot: snapshot.instances[0].weight == 7)
            await operator.edit("product", "a1", state=State.DRAINING)
            await until(watch, lambda snapshot: not snapshot.instances)
            assert (await stored(etcd)).keys() == {OWN}
            await operator.edit("product", "a1", state=State.SERVING)
            await until(watch, lambda snapshot: ids(snapshot) == ["a1"])
        assert len(await stored(etcd)) == 3


async def test_after_a_lost_lease_all_come_back_together(own: Connect, etcd: Etcd) -> None:
    """A revoked lease takes all keys, and the next one has all of them; nothing is left under the old one."""
    async with own(also=BOTH) as registry:
        assert isinstance(registry, EtcdRegistry)
        registration = registry.register(Instance("product", "10.0.0.1:50051", id="a1"))
        await registration.wait_registered()
        old = registry._session.lease
        async with aclosing(registry.in_format("go-zero").watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == [str(old.id)])
            await leases.revoke(registry._connection, old.id)
            registry._session.report_lost(old)
            await asyncio.wait_for(registration.wait_registered(), 30)
            new = registry._session.lease
            assert new != old
            await until(watch, lambda snapshot: ids(snapshot) == [str(new.id)])
        found = await stored(etcd)
        assert found.keys() == {OWN, KRATOS, f"product/{new.id}"}
        assert {entry["lease"] for entry in found.values()} == {new.id}
        assert len({entry["mod_revision"] for entry in found.values()}) == 1


async def test_keys_of_a_lease_given_up_go_with_the_next_registration(own: Connect, etcd: Etcd) -> None:
    """A lease that we count as lost, while etcd still holds it, leaves no second address behind for go-zero."""
    async with own(also=BOTH) as registry:
        assert isinstance(registry, EtcdRegistry)
        registration = registry.register(Instance("product", "10.0.0.1:50051", id="a1"))
        await registration.wait_registered()
        old = registry._session.lease
        registry._session.report_lost(old)
        await asyncio.wait_for(registration.wait_registered(), 30)
        assert (await stored(etcd)).keys() == {OWN, KRATOS, f"product/{registry._session.lease.id}"}
        assert registry._session.lease != old


async def test_a_dead_instance_is_removed_from_all_formats(own: Connect, etcd: Etcd) -> None:
    """A supervisor that removes an instance takes it out of every format at once."""
    async with own(also=BOTH) as registry, own(also=BOTH) as supervisor:
        assert isinstance(registry, EtcdRegistry)
        await registry.register(Instance("product", "10.0.0.1:50051", id="a1")).wait_registered()
        registration = registry._registrations[OWN.encode()]
        registration._task.cancel()
        await supervisor.remove("product", "a1")
        assert await stored(etcd) == {}


async def test_instances_of_kratos_and_of_go_zero_are_found(own: Connect, etcd: Etcd) -> None:
    """A watch in another format finds what that framework registered, follows it, and passes over what it cannot read;
    services with longer names of the same beginning are none of its business."""
    await put(
        etcd,
        "/microservices/user/u1",
        '{"id":"u1","name":"user","version":"","metadata":null,"endpoints":["grpc://h:1"]}',
    )
    await put(etcd, "/microservices/user/bad", "{")
    await put(
        etcd,
        "/microservices/user2/x",
        '{"id":"x","name":"user2","version":"","metadata":null,"endpoints":["grpc://h:2"]}',
    )
    await put(etcd, "user.rpc/100", "h:3")
    await put(etcd, "user.rpc/bad", "h")
    async with own() as registry:
        kratos, gozero = registry.in_format("kratos"), registry.in_format("go-zero")
        assert registry.in_format(Kratos()) is kratos
        async with aclosing(kratos.watch("user")) as watch, aclosing(gozero.watch("user.rpc")) as other:
            snapshot = await until(watch, lambda snapshot: ids(snapshot) == ["u1"])
            assert snapshot.instances == (Instance("user", "h:1", id="u1"),)
            snapshot = await until(other, lambda snapshot: ids(snapshot) == ["100"])
            assert snapshot.instances == (Instance("user.rpc", "h:3", id="100"),)
            await put(etcd, "user.rpc/101", "h:4")
            await until(other, lambda snapshot: ids(snapshot) == ["100", "101"])
            await asyncio.to_thread(etcd.ctl, "del", "/microservices/user/u1")
            await until(watch, lambda snapshot: not snapshot.instances)
    with pytest.raises(RegistryClosed):
        await anext(kratos.watch("user"))
    with pytest.raises(RegistryClosed):
        registry.in_format("kratos")


async def test_a_second_instance_of_a_service_needs_a_lease_of_its_own_for_go_zero(own: Connect) -> None:
    """Where two instances would have one key, the second is refused, and not written over the first."""
    async with own(also=["go-zero"]) as registry, own(also=["kratos"]) as other:
        registry.register(Instance("product", "10.0.0.1:1", id="a1"))
        with pytest.raises(InvalidInstance, match="product/a2 has the key of product/a1"):
            registry.register(Instance("product", "10.0.0.1:2", id="a2"))
        other.register(Instance("product", "10.0.0.1:1", id="a3"))
        with pytest.raises(InvalidInstance, match="unix sockets"):
            other.register(Instance("product", "unix:/tmp/s", id="a4"))
        await other.register(Instance("product", "10.0.0.1:2", id="a5")).wait_registered()
