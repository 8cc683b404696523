"""The data directory of one shop, which one `shop up` at a time may use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from shop_services.launch.errors import DirectoryInUse


class DataDirectory:
    """A directory with the shop's databases, etcd's and NATS's data, mails and logs; held from `with` to its end.

    The lock is the kernel's (flock): it ends with the process that holds it, however that ends.

    Raises:
        DirectoryInUse: on entering; another process holds it.
        OSError: on entering; it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = -1

    @property
    def etcd(self) -> Path:
        """Where the embedded etcd keeps its data."""
        return self.path / "etcd"

    @property
    def nats(self) -> Path:
        """Where the embedded NATS keeps its streams."""
        return self.path / "nats"

    @property
    def tls(self) -> Path:
        """Where certificates are that were made for it."""
        return self.path / "tls"

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self.path / "logs" / f"{name}.log"

    def __enter__(self) -> Self:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds addresses and password hashes
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise DirectoryInUse(
                f"{self.path} is in use by another shop (pid {pid}): stop that one, or choose another with --data"
            ) from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)  # the file stays: removing it could remove the lock of one who has just opened it
