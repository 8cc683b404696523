"""The lease of a process."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from functools import partial
from pathlib import Path
from random import Random

import pytest

import grpc_registry
from grpc_registry import Instance, Snapshot
from grpc_registry.arguments import MOST_TTL
from grpc_registry.etcd import member as members
from grpc_registry.etcd.registry import EtcdRegistry
from grpc_registry.url import EtcdUrl
from tests.elapsed import measured
from tests.integration.client.proxy import Proxy
from tests.integration.registry.conftest import Connect, crash, lease_of
from tests.servers import Etcd
from tests.watching import ids, until


async def test_a_process_has_one_lease(own: Connect, etcd: Etcd) -> None:
    """However many instances a registry registers, they hang on one lease, and it has no other."""
    ttl = 10
    async with own(ttl=ttl) as registry:
        registrations = [registry.register(Instance(f"s{n}", "10.0.0.1:1")) for n in range(5)]
        await asyncio.gather(*(registration.wait_registered() for registration in registrations))
        keys = [f"mesh/{one.instance.service}/{one.instance.id}" for one in registrations]
        [lease] = {await lease_of(etcd, key) for key in keys}
        # Where this process stood still it may have given up on a grant. Nobody keeps that lease alive.
        async with asyncio.timeout(ttl + 10):
            while await asyncio.to_thread(leases, etcd) != [f"{lease:016x}"]:
                continue
    assert await asyncio.to_thread(leases, etcd) == []


async def test_a_crashed_process_is_gone_after_its_ttl(own: Connect) -> None:
    """Without a sign of life the instance goes away within its TTL and the second or so in which etcd looks."""
    async with own(ttl=2) as registry, own() as reader, aclosing(reader.watch("product")) as watch:
        await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        await crash(registry)
        async with measured() as elapsed:
            await until(watch, lambda snapshot: ids(snapshot) == [])
            assert elapsed.seconds < 4


async def test_a_living_process_outlives_its_ttl(own: Connect) -> None:
    """Signs of life keep the instance registered, without an interruption that anyone could see."""
    ttl = 6  # a sign of life comes every 2 s, and this process may stand still for longer
    async with own(ttl=ttl) as registry, own() as reader, aclosing(reader.watch("product")) as watch:
        await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        with pytest.raises(TimeoutError):
            await until(watch, lambda _: True, seconds=ttl + 2)


async def test_the_longest_ttl_is_granted(shared: Connect) -> None:
    """What `connect` allows at most etcd grants."""
    async with shared(ttl=MOST_TTL) as registry:
        await registry.register(Instance("product", "10.0.0.1:1")).wait_registered()
        assert [listing.lease_ttl for listing in await registry.list()] == [MOST_TTL]


async def test_a_lease_that_etcd_will_not_grant_is_warned_of_once(
    shared_etcd: Etcd, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal that stays one is said, and the tries that follow do not say it again."""
    url = EtcdUrl((shared_etcd.endpoints,), prefix)
    registry = EtcdRegistry(url, ttl=MOST_TTL + 1, timeout=1, close_timeout=1, rng=Random(1))  # past `connect`
    caplog.set_level(logging.DEBUG, "grpc_registry.backoff")

    def refusals(level: int) -> list[str]:
        told = [record.getMessage() for record in caplog.records if record.levelno == level]
        return [message for message in told if "too large lease TTL" in message]

    async with registry:
        registration = registry.register(Instance("product", "10.0.0.1:1"))
        async with asyncio.timeout(30):
            while len(refusals(logging.DEBUG)) < 3:  # noqa: ASYNC110 - nobody tells of a try
                await asyncio.sleep(0.02)
        assert not registration.registered
    [refusal] = refusals(logging.WARNING)
    assert refusal.startswith(f"registry {url} refuses: etcd at ")


async def test_two_processes_with_one_id_say_so_once(shared: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """However often they take it from each other, each of them logs one line for a start."""
    async with shared() as one, shared() as other, shared() as reader, aclosing(reader.watch("product")) as watch:
        first = one.register(Instance("product", "10.0.0.1:1", id="a"))
        await first.wait_registered()
        second = other.register(Instance("product", "10.0.0.2:1", id="a"))
        for address in ("10.0.0.2:1", "10.0.0.1:1") * 3:
            await until(watch, partial(is_at, address))
        takings = [message for message in caplog.messages if "taking it over" in message]
        assert sorted(message.partition(" was ")[2] for message in takings) == [
            "registered by 10.0.0.1:1: taking it over",
            "registered by 10.0.0.2:1: taking it over",
        ]
        await second.close()


def is_at(address: str, snapshot: Snapshot) -> bool:
    """Whether the one instance has that address."""
    return [instance.address for instance in snapshot.instances] == [address]


async def test_the_granted_ttl_counts(tmp_path: Path) -> None:
    """etcd grants no lease shorter than one and a half elections; what it granted is kept, not what was asked."""
    server = Etcd(tmp_path, flags=["--heartbeat-interval=200", "--election-timeout=2000"])
    try:
        await asyncio.to_thread(server.start)
        async with grpc_registry.connect(server.url, ttl=2) as registry:
            registration = registry.register(Instance("product", "10.0.0.1:1"))
            await registration.wait_registered()
            assert [listing.lease_ttl for listing in await registry.list()] == [3]
            assert registry._session.lease.ttl == 3  # type: ignore[attr-defined]
    finally:
        server.kill()


async def test_a_lease_whose_grant_was_long_under_way_gets_its_time_first(
    etcd: Etcd, own: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that an outage held back is for a lease about to end: what is registered then stays registered."""
    ttl = 6  # a sign of life comes every 2 s, and this process may stand still for longer
    # Neither the connection nor the call is to be given up before that.
    lasting = dict(members._OPTIONS) | {"grpc.http2.ping_timeout_ms": 30_000}
    monkeypatch.setattr(members, "_OPTIONS", list(lasting.items()))
    proxy = await Proxy(etcd.port).start()
    async with (
        grpc_registry.connect(f"etcd://127.0.0.1:{proxy.port}", ttl=ttl, timeout=30, rng=Random(1)) as registry,
        own() as reader,
        aclosing(reader.watch("product")) as watch,
    ):
        connection = registry._connection  # type: ignore[attr-defined]
        connection.call = partial(connection.call, attempt_timeout=30)
        assert await registry.list("product") == []  # it is connected
        proxy.back.freeze()
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(leases, etcd):
                continue
        # The lease has less than half a second left then. Where this process stood still it has none, and another is
        # asked for.
        await asyncio.sleep(ttl - 0.5)
        proxy.back.thaw()
        await registration.wait_registered()
        lease = await lease_of(etcd, "mesh/product/a")
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        with pytest.raises(TimeoutError):
            await until(watch, lambda _: True, seconds=ttl)
        assert await lease_of(etcd, "mesh/product/a") == lease
    await proxy.stop()


async def test_a_lease_that_was_revoked_is_replaced(own: Connect, etcd: Etcd) -> None:
    """Everything that hung on a revoked lease is registered again under a new one, at once and with its edits."""
    async with own() as registry, own() as reader, aclosing(reader.watch_all()) as watch:
        for service in ("order", "product"):
            await registry.register(Instance(service, "10.0.0.1:1", id=service)).wait_registered()
        await reader.edit("product", "product", weight=7)
        await until(watch, lambda snapshot: [instance.weight for instance in snapshot.instances] == [100, 7])
        lease = f"{await lease_of(etcd, 'mesh/product/product'):016x}"
        await asyncio.to_thread(etcd.ctl, "lease", "revoke", lease)
        await until(watch, lambda snapshot: ids(snapshot) != ["order", "product"])
        back = await until(watch, lambda snapshot: ids(snapshot) == ["order", "product"])
        assert [instance.weight for instance in back.instances] == [100, 7]
        assert await lease_of(etcd, "mesh/product/product") != int(lease, 16)


def leases(server: Etcd) -> list[str]:
    return re.findall(r"^[0-9a-f]{16}$", server.ctl("lease", "list"), re.MULTILINE)
