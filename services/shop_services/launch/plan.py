"""What `shop up` starts: every service as several processes, and an etcd where there is none. Starts nothing itself."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grpc_registry import InvalidUrl
from grpc_registry.url import MemoryUrl, parse_url
from shop_services.launch.data import DataDirectory
from shop_services.launch.errors import LaunchError
from shop_services.launch.etcd import etcd_binary, etcd_command
from shop_services.launch.ports import LOOPBACK, Ports, holder, is_free
from shop_services.launch.program import Program
from shop_services.runtime.settings import SettingError, Settings

ETCD = "etcd"
GATEWAY = "gateway"
SERVICES = ("user", "product", "order", "cache", GATEWAY)

ETCD_PORT = 2379
"""Where etcd's own tools look for it: taken when it is free."""


@dataclass(frozen=True, slots=True)
class Part:
    """One instance of a service, or the etcd: the program that runs it, and the address that others dial."""

    service: str
    address: str
    program: Program


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to run. `etcd` is None where `REGISTRY_URL` names one that runs already."""

    data: Path
    registry_url: str
    gateway_url: str
    embedded_databases: bool
    etcd: Part | None
    parts: tuple[Part, ...]

    @property
    def shown_registry_url(self) -> str:
        """The registry's URL without the user and password that it may have."""
        return re.sub("//[^/]*@", "//", self.registry_url)


def service_command(service: str) -> tuple[str, ...]:
    """The command that runs one instance of a service. -P: no file of the current directory may pass for a module."""
    return (sys.executable, "-P", "-m", f"shop_services.{service}")


def plan_shop(
    environment: Mapping[str, str], data: DataDirectory, *, replicas: int, port: int, rng: random.Random
) -> Plan:
    """Choose ports, and say what to run so that every service has `replicas` instances, the first gateway on `port`.

    With `port` 0 that is a free one, as for all others.

    Raises:
        LaunchError: the gateway's port is in use.
        MissingBinary: an etcd is needed, and none is installed.
        SettingError: a variable of the environment cannot be used, or `REGISTRY_URL` not by several processes.
    """
    if port and not is_free(port):
        by = f" by {who}" if (who := holder(port)) else ""
        raise LaunchError(f"port {port} is in use{by}: choose another for the gateway with --port")
    ports = Ports(rng, port)
    asked_for, port = port, port or ports.next()
    environment = {**environment, "SHOP_DATA": str(data.path)}
    etcd = None
    if not environment.get("REGISTRY_URL"):
        etcd_port = ports.next(ETCD_PORT)
        peer_port = ports.next()
        command = etcd_command(etcd_binary(), data.etcd, client_port=etcd_port, peer_port=peer_port)
        program = Program(ETCD, command, environment, data.log(ETCD), stage=1, drawn_ports=(etcd_port, peer_port))
        etcd = Part(ETCD, f"{LOOPBACK}:{etcd_port}", program)
        environment["REGISTRY_URL"] = f"etcd://{etcd.address}"
    settings = Settings.from_environment(environment)
    check_registry(settings.registry_url)
    parts = []
    for service in SERVICES:
        for number in range(1, replicas + 1):
            its_port = port if (service, number) == (GATEWAY, 1) else ports.next()
            name = f"{service}-{number}"
            program = Program(
                name,
                service_command(service),
                {**environment, "SHOP_PORT": str(its_port)},
                data.log(name),
                drawn_ports=() if its_port == asked_for else (its_port,),
            )
            parts.append(Part(service, settings.address(its_port), program))
    return Plan(
        data=data.path,
        registry_url=settings.registry_url,
        gateway_url=f"http://{settings.address(port)}",
        embedded_databases=not settings.database_url,
        etcd=etcd,
        parts=tuple(parts),
    )


def check_registry(url: str) -> None:
    """Raises `SettingError` unless processes can share the registry at `url`."""
    try:
        parsed = parse_url(url)
    except InvalidUrl as error:
        raise SettingError("REGISTRY_URL", str(error)) from error
    if isinstance(parsed, MemoryUrl):
        raise SettingError("REGISTRY_URL", "memory:// is known to one process alone, and these are several")
