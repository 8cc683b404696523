"""The lease of a process."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing
from pathlib import Path

import pytest

import grpc_registry
from grpc_registry import Instance
from tests.integration.registry.conftest import Connect, crash
from tests.servers import Etcd
from tests.watching import ids, until


async def test_a_process_has_one_lease(own: Connect, etcd: Etcd) -> None:
    """However many instances a registry registers, they hang on one lease."""
    async with own() as registry:
        registrations = [registry.register(Instance(f"s{n}", "10.0.0.1:1")) for n in range(5)]
        await asyncio.gather(*(registration.wait_registered() for registration in registrations))
        assert len(leases(etcd)) == 1
    assert leases(etcd) == []


async def test_a_crashed_process_is_gone_after_its_ttl(own: Connect) -> None:
    """Without a sign of life the instance goes away within its TTL and the second or so in which etcd looks."""
    async with own(ttl=2) as registry, own() as reader, aclosing(reader.watch("product")) as watch:
        await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        await crash(registry)
        crashed = time.monotonic()
        await until(watch, lambda snapshot: ids(snapshot) == [])
        assert time.monotonic() - crashed < 4


async def test_a_living_process_outlives_its_ttl(own: Connect) -> None:
    """Signs of life keep the instance registered, without an interruption that anyone could see."""
    async with own(ttl=2) as registry, own() as reader, aclosing(reader.watch("product")) as watch:
        await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        with pytest.raises(TimeoutError):
            await until(watch, lambda _: True, seconds=4)


async def test_the_granted_ttl_counts(tmp_path: Path) -> None:
    """etcd grants no lease shorter than one and a half elections; what it granted is kept, not what was asked."""
    server = Etcd(tmp_path, flags=["--heartbeat-interval=200", "--election-timeout=2000"])
    try:
        await asyncio.to_thread(server.start)
        async with grpc_registry.connect(server.url, ttl=1) as registry:
            registration = registry.register(Instance("product", "10.0.0.1:1"))
            await registration.wait_registered()
            assert [listing.lease_ttl for listing in await registry.list()] == [3]
            assert registry._session.lease.ttl == 3  # type: ignore[attr-defined]
    finally:
        server.kill()


async def test_a_lease_that_was_revoked_is_replaced(own: Connect, etcd: Etcd) -> None:
    """Everything that hung on a revoked lease is registered again under a new one, at once and with its edits."""
    async with own() as registry, own() as reader, aclosing(reader.watch_all()) as watch:
        for service in ("order", "product"):
            await registry.register(Instance(service, "10.0.0.1:1", id=service)).wait_registered()
        await reader.edit("product", "product", weight=7)
        await until(watch, lambda snapshot: [instance.weight for instance in snapshot.instances] == [100, 7])
        [lease] = leases(etcd)
        await asyncio.to_thread(etcd.ctl, "lease", "revoke", lease)
        await until(watch, lambda snapshot: ids(snapshot) != ["order", "product"])
        back = await until(watch, lambda snapshot: ids(snapshot) == ["order", "product"], seconds=3)
        assert [instance.weight for instance in back.instances] == [100, 7]
        assert leases(etcd) != [lease]


def leases(server: Etcd) -> list[str]:
    return re.findall(r"^[0-9a-f]{16}$", server.ctl("lease", "list"), re.MULTILINE)
