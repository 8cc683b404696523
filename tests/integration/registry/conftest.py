"""Registries in a real etcd."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from random import Random

import pytest

import grpc_registry
from grpc_registry import Registry
from grpc_registry.etcd.registry import EtcdRegistry
from grpc_registry.waiting import stop
from tests.servers import Etcd

Connect = Callable[..., Registry]


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def shared(shared_etcd: Etcd, prefix: str) -> Connect:
    """Makes registries in an etcd that stays up, under `prefix`."""
    return lambda **options: grpc_registry.connect(shared_etcd.url, prefix=prefix, rng=Random(1), **options)


@pytest.fixture
def own(etcd: Etcd) -> Connect:
    """Makes registries in an etcd of the test's own."""
    return lambda **options: grpc_registry.connect(etcd.url, timeout=1, rng=Random(1), **options)


async def crash(registry: Registry) -> None:
    """End the registry's tasks as a crash of its process would: nothing is written, nothing kept alive any more."""
    assert isinstance(registry, EtcdRegistry)
    await registry._session.close()
    await stop(*(registration._task for registration in registry._registrations.values()))
