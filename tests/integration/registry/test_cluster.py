"""A cluster of three."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random

import grpc_registry
from grpc_registry import Instance, Registry, Snapshot
from tests.elapsed import measured
from tests.servers import Etcd, EtcdCluster
from tests.watching import ids, until


def connect(cluster: EtcdCluster) -> Registry:
    return grpc_registry.connect(cluster.url, ttl=10, timeout=30, rng=Random(1))


def member_in_use(registry: Registry, cluster: EtcdCluster) -> Etcd:
    connection = registry._connection  # type: ignore[attr-defined]
    address = connection._members[connection._current].address
    [member] = [member for member in cluster.members if member.endpoints == address]
    return member


async def test_the_loss_of_a_member_is_hardly_noticed(etcd_cluster: EtcdCluster) -> None:
    """When the member in use dies, registrations, watches and edits go on at another, and no lease is lost."""
    async with connect(etcd_cluster) as registry, aclosing(registry.watch("product")) as watch:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await registration.wait_registered()
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        lease = registry._session.lease  # type: ignore[attr-defined]
        for weight in (1, 2):
            member = member_in_use(registry, etcd_cluster)
            await asyncio.to_thread(member.kill)
            await registry.edit("product", "a", weight=weight)
            await until(watch, lambda snapshot: snapshot.instances[0].weight == weight and not snapshot.stale)  # noqa: B023
            await asyncio.to_thread(member.start)
        assert registry._session.lease is lease  # type: ignore[attr-defined]
        assert registration.registered


async def test_a_frozen_member_is_left(etcd_cluster: EtcdCluster) -> None:
    """An operator's call at a frozen member is answered by another one within seconds."""
    async with connect(etcd_cluster) as registry:
        assert await registry.list() == []
        member = member_in_use(registry, etcd_cluster)
        member.pause()
        async with measured() as elapsed:
            assert await registry.list() == []
            assert elapsed.seconds < 6
        assert member_in_use(registry, etcd_cluster) is not member
        member.resume()


async def test_a_member_without_its_peers_is_not_believed(etcd_cluster: EtcdCluster) -> None:
    """With two of three gone there is no leader: the snapshot is stale until one comes back."""
    async with connect(etcd_cluster) as registry, aclosing(registry.watch("product")) as watch:
        assert isinstance(await anext(watch), Snapshot)
        for member in etcd_cluster.members[:2]:
            await asyncio.to_thread(member.kill)
        await until(watch, lambda snapshot: snapshot.stale, seconds=30)
        await asyncio.to_thread(etcd_cluster.members[0].start)
        await until(watch, lambda snapshot: not snapshot.stale, seconds=30)
