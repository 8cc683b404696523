"""What `shop up` starts: services as several processes, workers, and the servers they need. Starts nothing itself."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from grpc_registry import InvalidUrl
from grpc_registry.url import MemoryUrl, parse_url
from shop_services.cache.namespaces import Namespaces
from shop_services.launch.commands import (
    OWNERS,
    SERVICES,
    service_command,
    worker_command,
    worker_environment,
    worker_name,
)
from shop_services.launch.data import DataDirectory
from shop_services.launch.embedded import MAIL, embedded_servers
from shop_services.launch.errors import LaunchError
from shop_services.launch.ports import Ports, holder, is_free
from shop_services.launch.program import Part, Program, Stage
from shop_services.messaging.bus import TOPICS
from shop_services.notification.mailbox import mailbox_of
from shop_services.runtime.settings import SettingError, Settings

GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to run. `servers` are etcd, NATS and the mail server, as far as no variable names another.

    `settings` are those of all processes, as far as they have them in common.
    """

    settings: Settings
    gateway_url: str
    servers: tuple[Part, ...]
    parts: tuple[Part, ...]

    @property
    def mailbox(self) -> Path | None:
        """Where e-mails are kept; None if `SHOP_SMTP_URL` names a mail server."""
        return mailbox_of(self.settings.data) if any(part.service == MAIL for part in self.servers) else None


def shown(url: str) -> str:
    """A URL without the user and password that it may have."""
    return re.sub("//[^/]*@", "//", url)


def plan_shop(
    environment: Mapping[str, str], data: DataDirectory, *, replicas: int, port: int, rng: random.Random
) -> Plan:
    """Choose ports, and say what to run so that every service has `replicas` instances, the first gateway on `port`,
    and every topic a worker.

    With `port` 0 that is a free one, as for all others.

    Raises:
        LaunchError: the gateway's port is in use.
        MissingBinary: a server is needed, and is not installed.
        SettingError: a variable of the environment cannot be used, or not by several processes.
    """
    if port and not is_free(port):
        by = f" by {who}" if (who := holder(port)) else ""
        raise LaunchError(f"port {port} is in use{by}: choose another for the gateway with --port")
    ports = Ports(rng, port)
    servers, variables = embedded_servers({**environment, "SHOP_DATA": str(data.path)}, data, ports)
    settings = Settings.from_environment(variables)
    check_registry(settings.registry_url)
    check_bus(settings.nats_url)
    _check_keys(settings)
    Namespaces.parse(  # the cache's instances would refuse it too, once all has been started
        settings.cache_namespaces, max_entries=settings.cache_max_entries, max_bytes=settings.cache_max_bytes
    )

    numbers = count()

    def part(name: str, service: str, command: tuple[str, ...], variables: Mapping[str, str], stage: Stage) -> Part:
        asked_for = port if name == f"{GATEWAY}-1" else 0
        its_port = asked_for or ports.next()
        program = Program(
            name,
            command,
            {**variables, "SHOP_PORT": str(its_port), **metrics_variables(settings, next(numbers))},
            data.log(name),
            stage,
            drawn_ports=() if asked_for else (its_port,),
        )
        return Part(service, settings.address(its_port), program)

    services = [
        part(f"{service}-{number}", service, service_command(service), variables, Stage.SERVICES)
        for service in SERVICES
        for number in range(1, replicas + 1)
    ]
    workers = [
        part(f"worker-{topic}", worker_name(topic), worker_command(topic), worker_environment(variables), Stage.WORKERS)
        for topic in TOPICS
    ]
    gateway = next(part for part in services if part.service == GATEWAY)
    return Plan(
        settings=settings,
        gateway_url=f"{'http' if settings.tls_dir is None else 'https'}://{gateway.address}",
        servers=tuple(servers),
        parts=(*services, *workers),
    )


def metrics_variables(settings: Settings, number: int) -> dict[str, str]:
    """What tells process `number` (0, 1 …) of several where to serve metrics: on the ports from SHOP_METRICS_PORT on.

    Raises:
        SettingError: there is no such port.
    """
    if not settings.metrics_port:
        return {}
    port = settings.metrics_port + number
    if port > 65535:
        raise SettingError("SHOP_METRICS_PORT", f"must leave a port after it for each process; {port} is none")
    return {"SHOP_METRICS_PORT": str(port)}


def check_registry(url: str) -> None:
    """Raises `SettingError` unless processes can share the registry at `url`."""
    try:
        parsed = parse_url(url)
    except InvalidUrl as error:
        raise SettingError("REGISTRY_URL", str(error)) from error
    if isinstance(parsed, MemoryUrl):
        raise SettingError("REGISTRY_URL", "memory:// is known to one process alone, and these are several")


def check_bus(url: str) -> None:
    """Raises `SettingError` unless processes can share the bus at `url`."""
    if url.startswith("memory:"):
        raise SettingError("NATS_URL", "memory:// is known to one process alone, and these are several")


def _check_keys(settings: Settings) -> None:
    """Raises `SettingError` unless all who sign have a key; with certificates, services do not."""
    from shop_services.runtime.identity.keys import IDENTITY  # slow for `shop --help`
    from shop_services.runtime.identity.opening import check_keys

    check_keys(settings, OWNERS if settings.tls_dir is None else (IDENTITY,))
