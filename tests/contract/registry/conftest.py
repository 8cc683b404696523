"""The two registries that the contract runs over: memory, and a real etcd."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from random import Random
from typing import Protocol

import pytest

import grpc_registry
from grpc_registry import Instance, Registry, memory
from grpc_registry.etcd.naming import encode
from tests.servers import Etcd


class World(Protocol):
    """A registry's backend, and what can happen to it."""

    def connect(self, *, patience: float = 30) -> Registry:
        """A registry of the same space as all others of this world, which gives etcd so long for an answer."""

    async def put_by_hand(self, instance: Instance) -> None:
        """Register `instance` without a process or a lease that keeps it."""

    async def delete_by_hand(self, service: str, instance_id: str) -> None: ...

    async def put_config_by_hand(self, service: str, text: str) -> None:
        """Write a service config that nobody checks."""

    async def go_away(self) -> None: ...

    async def come_back(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.name = secrets.token_hex(4)
        self.space = memory.space(self.name)

    def connect(self, *, patience: float = 30) -> Registry:
        return grpc_registry.connect(f"memory://{self.name}")

    async def put_by_hand(self, instance: Instance) -> None:
        self.space.put(instance)

    async def delete_by_hand(self, service: str, instance_id: str) -> None:
        self.space.delete(service, instance_id)

    async def put_config_by_hand(self, service: str, text: str) -> None:
        self.space.put_config(service, text)

    async def go_away(self) -> None:
        self.space.go_away()

    async def come_back(self) -> None:
        self.space.come_back()


class EtcdWorld:
    def __init__(self, server: Etcd) -> None:
        self.server = server
        self.prefix = f"t{secrets.token_hex(4)}"

    def connect(self, *, patience: float = 30) -> Registry:
        return grpc_registry.connect(
            self.server.url, prefix=self.prefix, timeout=patience, close_timeout=patience, rng=Random(1)
        )

    async def put_by_hand(self, instance: Instance) -> None:
        key, value = f"{self.prefix}/{instance.service}/{instance.id}", encode(instance).decode()
        await asyncio.to_thread(self.server.ctl, "put", key, value)

    async def delete_by_hand(self, service: str, instance_id: str) -> None:
        await asyncio.to_thread(self.server.ctl, "del", f"{self.prefix}/{service}/{instance_id}")

    async def put_config_by_hand(self, service: str, text: str) -> None:
        await asyncio.to_thread(self.server.ctl, "put", f"{self.prefix}:config/{service}", text)

    async def go_away(self) -> None:
        await asyncio.to_thread(self.server.kill)

    async def come_back(self) -> None:
        await asyncio.to_thread(self.server.start)


@pytest.fixture(params=["memory", "etcd"])
def world(request: pytest.FixtureRequest) -> World:
    """A backend that stays up."""
    return MemoryWorld() if request.param == "memory" else EtcdWorld(request.getfixturevalue("shared_etcd"))


@pytest.fixture(params=["memory", "etcd"])
def fragile_world(request: pytest.FixtureRequest) -> World:
    """A backend of the test's own, which it may take away."""
    return MemoryWorld() if request.param == "memory" else EtcdWorld(request.getfixturevalue("etcd"))


@pytest.fixture
async def registry(world: World) -> AsyncIterator[Registry]:
    """A registry in `world`."""
    async with world.connect() as connected:
        yield connected


@pytest.fixture
async def other(world: World) -> AsyncIterator[Registry]:
    """Another process's registry in the same world."""
    async with world.connect() as connected:
        yield connected
