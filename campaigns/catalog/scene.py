"""The catalog as real processes, each kept running by the supervisor of `shop up`: who is killed is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc_registry
from campaigns.faults import Kind, Victim
from campaigns.processes import Process, part_of
from campaigns.servers import Broker, DatabaseServer, SharedCache
from grpc_registry import Registry
from shop_services.launch.commands import service_command
from shop_services.launch.program import Part
from shop_services.launch.readiness import Instances, wait_ready
from shop_services.launch.supervisor import Child, Supervisor
from shop_services.runtime.settings import Settings
from tests.servers import Etcd, free_port

READY_WITHIN = 90.0
INSTANCES = 3

_PRODUCT: Mapping[Kind, float] = {Kind.KILL: 1.0}
_CACHE: Mapping[Kind, float] = {Kind.KILL: 1.0, Kind.FREEZE: 0.5}


@dataclass(frozen=True, slots=True)
class Scene:
    """A catalog that runs. `settings` are those of its processes."""

    registry: Registry
    settings: Settings
    victims: Sequence[Victim]


class Replica(Process):
    """An instance of the product service, which is killed only while all others serve: somebody must answer."""

    def __init__(self, child: Child, alone: asyncio.Lock, back: Callable[[], Awaitable[None]]) -> None:
        super().__init__(child, _PRODUCT)
        self._alone = alone
        self._back = back

    async def suffer(self, kind: Kind, seconds: float) -> bool:
        """Be killed, unless another is not back yet."""
        if self._alone.locked():
            return False
        async with self._alone:
            killed = await super().suffer(kind, seconds)
            await self._back()
        return killed


@contextlib.asynccontextmanager
async def open_scene(
    directory: Path, *, mode: str, cache: str, database: str, report: Callable[[str], None]
) -> AsyncIterator[Scene]:
    """Start it all, and stop it all in the end. `report` is told of every process that ended.

    Raises:
        LaunchError: it did not get ready.
    """
    async with AsyncExitStack() as stack:
        etcd, broker, victims = Etcd(directory / "etcd"), Broker(directory / "nats"), list[Victim]()
        for server in (etcd, broker):
            stack.callback(server.kill)
            await asyncio.to_thread(server.start)
        cache_url = ""
        if cache == "redis":
            valkey = SharedCache(directory / "valkey")
            stack.callback(valkey.kill)
            await asyncio.to_thread(valkey.start)
            victims.append(valkey)
            cache_url = valkey.url
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
        environment |= {
            "REGISTRY_URL": etcd.url,
            "NATS_URL": broker.url,
            "DATABASE_URL": await _database(stack, database),
            "CACHE_URL": cache_url,
            "CATALOG_CACHE": mode,
            "SHOP_DATA": str(directory / "data"),
            "SHOP_LEASE_TTL": "3",
        }
        supervisor = await stack.enter_async_context(Supervisor(report))
        registry = await stack.enter_async_context(grpc_registry.connect(etcd.url))
        instances = await stack.enter_async_context(Instances(registry, Settings.from_environment(environment)))
        parts, alone = [], asyncio.Lock()
        for service in ("product",) if cache == "redis" else ("cache", "product"):
            for number in range(1, INSTANCES + 1):
                name = f"{service}-{number}"
                started = part_of(name, service_command(service), environment, directory, port=free_port())
                part = Part(service, started.address, started.program)
                parts.append(part)
                child = supervisor.start(part.program)
                back = partial(wait_ready, [part], instances.serve, seconds=READY_WITHIN)
                victims.append(Replica(child, alone, back) if service == "product" else Process(child, _CACHE))
        await wait_ready(parts, instances.serve, seconds=READY_WITHIN)
        yield Scene(registry, Settings.from_environment(environment), victims)


async def _database(stack: AsyncExitStack, name: str) -> str:
    """The URL of the database; empty for SQLite, where the service has a file."""
    if name == "sqlite":
        return ""
    server = DatabaseServer()
    stack.callback(server.remove)
    await asyncio.to_thread(server.start)
    return stack.enter_context(server.database())
