"""The whole shop as processes, one of each kind, with the servers that it needs: all of them as `shop up` starts them.

Whatever is acknowledged is on disk: SQLite and PostgreSQL wait for it at each commit, nats-server at each message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from shop_services.launch.commands import mail_command, service_command, worker_command, worker_environment
from shop_services.launch.nats import nats_binary, nats_command
from shop_services.messaging.bus import TOPICS
from shop_services.runtime.settings import Settings
from tests.servers import Etcd, Nats, Postgres, ServerProcess, free_port
from tests.servers.process import exchange

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
DATABASES = (SQLITE, POSTGRESQL)
SERVICES = ("user", "product", "payment", "order")


class DurableNats(Nats):
    """nats-server as `shop up` starts it."""

    def command(self) -> Sequence[str]:
        return nats_command(nats_binary(), self.directory / "streams", port=self.port)


class DurablePostgres(Postgres):
    """PostgreSQL that waits for the disk, as it does by default; that of the tests does not."""

    def command(self) -> Sequence[str]:
        durable = [f"{setting}=on" for setting in ("fsync", "synchronous_commit", "full_page_writes")]
        return [*super().command(), *(argument for setting in durable for argument in ("-c", setting))]


class ShopProcess(ServerProcess):
    """A process of the shop, on `port`."""

    def __init__(self, directory: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._command = command
        self._environment = {**environment, "SHOP_PORT": str(self.port)}

    def command(self) -> Sequence[str]:
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in self._environment.items()), *self._command]

    def ready(self) -> bool:
        return b'"listening"' in self.log.read_bytes()


class MailServer(ShopProcess):
    """The mail server that keeps mails as files."""

    def ready(self) -> bool:
        return exchange(self.port, b"").startswith(b"220")


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that runs: what its processes were told, and these by name."""

    settings: Settings
    processes: Mapping[str, ServerProcess]

    @property
    def pids(self) -> dict[str, int]:
        """The id of every process, by its name."""
        return {name: process.pid for name, process in self.processes.items()}


@contextlib.contextmanager
def running(directory: Path, database: str) -> Iterator[Shop]:
    """A shop on one of `DATABASES` until the end of the block; its files are in `directory`. Raises `NotReady`."""
    # However slow the machine: the last of a burst is to be processed, not given up after a quarter of an hour.
    environment = {"SHOP_DATA": str(directory / "data"), "SHOP_ORDER_TIMEOUT": "3600"}
    processes: dict[str, ServerProcess] = {}
    with ExitStack() as stack:

        def add(name: str, process: ServerProcess) -> None:
            stack.callback(process.kill)
            process.spawn()
            processes[name] = process

        if database == POSTGRESQL:
            postgres = DurablePostgres()
            stack.callback(postgres.remove)
            processes["postgres"] = postgres.start()
            environment["DATABASE_URL"] = stack.enter_context(postgres.database())
        etcd, nats = Etcd(directory / "etcd"), DurableNats(directory / "nats")
        mail = MailServer(directory / "mail", mail_command(), environment)
        for name, server in (("etcd", etcd), ("nats-server", nats), ("mail", mail)):
            add(name, server)
        environment |= {
            "REGISTRY_URL": etcd.url,
            "NATS_URL": nats.url,
            "SHOP_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
        }
        _wait(processes)
        for service in SERVICES:
            add(service, ShopProcess(directory / service, service_command(service), environment))
        _wait(processes)
        for topic in TOPICS:
            worker = ShopProcess(directory / f"{topic}-worker", worker_command(topic), worker_environment(environment))
            add(f"{topic}-worker", worker)
        _wait(processes)
        yield Shop(Settings.from_environment(environment), processes)


def _wait(processes: Mapping[str, ServerProcess]) -> None:
    for process in processes.values():
        process.wait_ready()
