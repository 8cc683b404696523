"""Registries in a real etcd."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

import grpc_registry
from grpc_registry import Registry
from grpc_registry.etcd.registry import EtcdRegistry
from grpc_registry.waiting import stop
from tests.servers import Etcd

Connect = Callable[..., Registry]

CALM = """
import logging
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))
"""
"""For the beginning of a program that runs with `-X dev`: that a step took 0.1 s says how busy the machine is."""


def _patient() -> dict[str, Any]:
    """No test is about these times, and a busy machine may need more than their defaults."""
    return {"timeout": 30, "close_timeout": 30, "rng": Random(1)}


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def shared(shared_etcd: Etcd, prefix: str) -> Connect:
    """Makes registries in an etcd that stays up, under `prefix`."""
    return lambda **options: grpc_registry.connect(shared_etcd.url, prefix=prefix, **_patient() | options)


@pytest.fixture
def own(etcd: Etcd) -> Connect:
    """Makes registries in an etcd of the test's own."""
    return lambda **options: grpc_registry.connect(etcd.url, **_patient() | options)


async def lease_of(server: Etcd, key: str) -> int:
    """The lease that `key` hangs on; 0 if it hangs on none."""
    shown = json.loads(await asyncio.to_thread(server.ctl, "get", key, "-w", "json"))
    return int(shown["kvs"][0].get("lease", 0))


async def crash(registry: Registry) -> None:
    """End the registry's tasks as a crash of its process would: nothing is written, nothing kept alive any more."""
    assert isinstance(registry, EtcdRegistry)
    await registry._session.close()
    await stop(*(registration._task for registration in registry._registrations.values()))
