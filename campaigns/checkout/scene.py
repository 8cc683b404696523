"""The shop as real processes, each kept running by the supervisor of `shop up`: who is killed is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import grpc_registry
from campaigns.faults import Kind, Victim
from campaigns.processes import Process, part_of
from campaigns.servers import Broker, Connections, DatabaseServer
from grpc_registry import Registry
from shop_services.launch.commands import mail_command, service_command, worker_command, worker_name
from shop_services.launch.embedded import MAIL
from shop_services.launch.program import Part
from shop_services.launch.readiness import Instances, answers, wait_ready
from shop_services.launch.supervisor import Supervisor
from shop_services.runtime.settings import Settings
from shop_services.storage import Database
from tests.servers import Etcd, free_port

READY_WITHIN = 90.0

_SERVICE: Mapping[Kind, float] = {Kind.KILL: 1.0, Kind.FREEZE: 0.15}
_WORKER: Mapping[Kind, float] = {Kind.KILL: 1.0, Kind.FREEZE: 0.35}
_MAIL: Mapping[Kind, float] = {Kind.KILL: 0.3}


@dataclass(frozen=True, slots=True)
class _Role:
    """So many processes of a kind, and how often each of them is broken."""

    name: str
    command: tuple[str, ...]
    count: int
    weights: Mapping[Kind, float]


_ROLES = (
    _Role("user", service_command("user"), 1, {}),
    _Role("product", service_command("product"), 2, _SERVICE),
    _Role("order", service_command("order"), 2, _SERVICE),
    _Role("payment", service_command("payment"), 2, _SERVICE),
    *(
        _Role(worker_name(topic), worker_command(topic), count, _WORKER)
        for topic, count in (("orders", 2), ("payments", 2), ("inventory", 2), ("notifications", 1))
    ),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A shop that runs. `settings` are those of its processes, for whoever wants to look into its databases."""

    registry: Registry
    settings: Settings
    mails: Path
    victims: Sequence[Victim]


@contextlib.asynccontextmanager
async def open_scene(
    directory: Path, database: str, rng: Random, report: Callable[[str], None]
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
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
        mail_port = free_port()
        environment |= {
            "REGISTRY_URL": etcd.url,
            "NATS_URL": broker.url,
            "DATABASE_URL": await _database(stack, database, directory, victims, rng),
            "SHOP_DATA": str(directory / "data"),
            "SHOP_SMTP_URL": f"smtp://127.0.0.1:{mail_port}",
            "SHOP_LOG_LEVEL": "info",
            "SHOP_LEASE_TTL": "3",
            "SHOP_DATABASE_POOL": "5",
            "SHOP_CONCURRENCY": "4",
            "SHOP_ORDER_STUCK": "5",
            "SHOP_ORDER_TIMEOUT": "120",
        }
        supervisor = await stack.enter_async_context(Supervisor(report))
        mail = part_of(MAIL, mail_command(), environment, directory, port=mail_port)
        victims += [broker, Process(supervisor.start(mail.program), _MAIL)]
        parts = []
        for role in _ROLES:
            for number in range(1, role.count + 1):
                part = part_of(f"{role.name}-{number}", role.command, environment, directory, port=free_port())
                parts.append(Part(role.name, part.address, part.program))
                victims.append(Process(supervisor.start(part.program), role.weights))
        registry = await stack.enter_async_context(grpc_registry.connect(etcd.url))
        settings = Settings.from_environment(environment)
        async with Instances(registry, settings) as instances:
            await wait_ready(parts, instances.serve, seconds=READY_WITHIN)
            await wait_ready([mail], partial(answers, settings=settings), seconds=READY_WITHIN)
        yield Scene(registry, settings, directory / "data/mail", victims)


async def _database(stack: AsyncExitStack, name: str, directory: Path, victims: list[Victim], rng: Random) -> str:
    """The URL of the database, and who can be broken there; empty for SQLite, where every service has files."""
    if name == "sqlite":
        return ""
    server = DatabaseServer()
    stack.callback(server.remove)
    await asyncio.to_thread(server.start)
    url = stack.enter_context(server.database())
    stack.callback(server.dump, url, directory / "database.sql")
    victims += [server, Connections(await stack.enter_async_context(Database(url, service="campaign", pool=1)), rng)]
    return url
