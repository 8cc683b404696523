"""Public use of `grpc_registry`, type-checked and never run: what stops to type-check here breaks its users."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from random import Random
from typing import assert_type

import grpc
from grpc_health.v1.health import aio as health_aio

import grpc_registry
from grpc_registry import (
    ConfigResolution,
    ConfigSnapshot,
    ConfigSource,
    ConfigStore,
    Directory,
    Instance,
    Lifecycle,
    Listing,
    Phase,
    Registrar,
    Registration,
    Registry,
    Resolution,
    Resolver,
    Snapshot,
    State,
    Unresolved,
    workers,
)
from grpc_registry.memory import MemoryRegistry, MemorySpace


async def connecting() -> None:
    async with grpc_registry.connect("etcd://127.0.0.1", prefix="p", ttl=5, timeout=1.5, rng=Random(1)) as registry:
        assert_type(registry, Registry)


def keeping_the_contract() -> tuple[Registry, Registrar, Resolver, Directory, ConfigSource, ConfigStore]:
    registry = MemoryRegistry(MemorySpace())
    return registry, registry, registry, registry, registry, registry


async def registering(registry: Registrar) -> None:
    instance = Instance("product", "10.0.0.1:50051", weight=200, state=State.DRAINING, metadata={"a": [1]})
    registration = registry.register(instance)
    assert_type(registration, Registration)
    assert_type(registration.instance, Instance)
    assert_type(registration.registered, bool)
    await registration.wait_registered()
    await registration.update(weight=5)
    await registration.update(state=State.SERVING)
    await registration.close()


async def resolving(registry: Resolver) -> tuple[Instance, ...]:
    async with aclosing(registry.watch("product")) as watch:
        async for resolution in watch:
            assert_type(resolution, Resolution)
            match resolution:
                case Unresolved(reason=reason):
                    assert_type(reason, str)
                case Snapshot():
                    assert_type(resolution.revision, int)
                    assert_type(resolution.stale, bool)
                    assert_type(resolution.relisted, bool)
                    return resolution.instances
    return ()


async def operating(registry: Directory) -> None:
    assert_type(await registry.list(), list[Listing])
    assert_type([listing.lease_ttl for listing in await registry.list("product")], list[int])
    assert_type(await registry.edit("product", "a", weight=1, state=State.SERVING), Instance)
    async for resolution in registry.watch_all():
        assert_type(resolution, Resolution)


async def configuring(source: ConfigSource, store: ConfigStore) -> str | None:
    await store.set_config("product", "{}")
    await store.set_config("product", "{}", policies=["own"])
    assert_type(await store.get_config("product"), str | None)
    await store.remove_config("product")
    async with aclosing(source.watch_config("product")) as watch:
        async for resolution in watch:
            assert_type(resolution, ConfigResolution)
            match resolution:
                case Unresolved(reason=reason):
                    assert_type(reason, str)
                case ConfigSnapshot():
                    assert_type(resolution.revision, int)
                    assert_type(resolution.stale, bool)
                    return resolution.text
    return None


async def running(server: grpc.aio.Server, registry: Registry, instance: Instance) -> None:
    health = health_aio.HealthServicer()
    async with grpc_registry.serving(server, registry, instance, health=health, grace=5, signals=()) as lifecycle:
        assert_type(lifecycle, Lifecycle)
        assert_type(lifecycle.phase, Phase)
        assert_type(lifecycle.registrations, list[Registration])
        await lifecycle.drain()
        await lifecycle.wait()


async def server(url: str, worker: int) -> None:
    assert_type(worker, int)


def working() -> None:
    assert_type(workers.run(partial(server, "etcd://127.0.0.1"), 4, drain_seconds=10), int)
