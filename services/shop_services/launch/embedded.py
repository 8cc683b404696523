"""The servers that `shop up` brings along: etcd, NATS and a mail server, each unless a variable names another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shop_services.launch.commands import mail_command
from shop_services.launch.data import DataDirectory
from shop_services.launch.etcd import etcd_binary, etcd_command
from shop_services.launch.nats import nats_binary, nats_command, nats_variables
from shop_services.launch.ports import LOOPBACK, Ports
from shop_services.launch.program import Part, Program, Stage
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import tls_files

ETCD, NATS, MAIL = "etcd", "nats", "mail"

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A server that may be brought along: the variable that names another in its place, how its URL begins, without TLS
    and with it, and its usual port, which it takes if that is free."""

    name: str
    variable: str
    scheme: str
    secure_scheme: str
    port: int
    part: Callable[[Environment, DataDirectory, Ports, int], Part]


def embedded_servers(environment: Environment, data: DataDirectory, ports: Ports) -> tuple[list[Part], dict[str, str]]:
    """Those that no variable names, and the variables with those that they now name.

    Raises:
        MissingBinary: one is needed, and is not installed.
        SettingError: a variable cannot be used, or SHOP_TLS_DIR has no certificate for one that is needed.
    """
    parts, variables = [], dict(environment)
    secure = Settings.from_environment(environment).tls_dir is not None
    for server in _SERVERS:
        if not variables.get(server.variable):
            part = server.part(environment, data, ports, ports.next(server.port))
            parts.append(part)
            variables[server.variable] = f"{server.secure_scheme if secure else server.scheme}://{part.address}"
    return parts, variables


def _etcd(environment: Environment, data: DataDirectory, ports: Ports, port: int) -> Part:
    peer_port = ports.next()
    tls = tls_files(Settings.from_environment(environment), ETCD)
    command = etcd_command(etcd_binary(), data.etcd, client_port=port, peer_port=peer_port, tls=tls)
    return _part(ETCD, command, environment, data, port, peer_port)


def _nats(environment: Environment, data: DataDirectory, _ports: Ports, port: int) -> Part:
    tls = tls_files(Settings.from_environment(environment), NATS)
    variables = environment if tls is None else {**environment, **nats_variables(tls)}
    command = nats_command(nats_binary(), data.nats, port=port, secure=tls is not None)
    return _part(NATS, command, variables, data, port)


def _mail(environment: Environment, data: DataDirectory, _ports: Ports, port: int) -> Part:
    variables = {**environment, "SHOP_HOST": LOOPBACK, "SHOP_PORT": str(port)}  # it takes mail from anybody who asks
    return _part(MAIL, mail_command(), variables, data, port)


def _part(name: str, command: tuple[str, ...], environment: Environment, data: DataDirectory, *ports: int) -> Part:
    program = Program(name, command, environment, data.log(name), Stage.SERVERS, drawn_ports=ports)
    return Part(name, f"{LOOPBACK}:{ports[0]}", program)


_SERVERS = (
    Embedded(ETCD, "REGISTRY_URL", "etcd", "etcds", 2379, _etcd),
    Embedded(NATS, "NATS_URL", "nats", "tls", 4222, _nats),
    Embedded(MAIL, "SHOP_SMTP_URL", "smtp", "smtps", 1025, _mail),
)
