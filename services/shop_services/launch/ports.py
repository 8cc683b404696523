"""Ports of the loopback: a free one, and who holds one that is not."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"

# Below the range that the kernel gives to outgoing connections (32768 on Linux): while the server that was given a port
# is down, no client's socket can take it.
_FIRST, _LAST = 24_000, 32_000
_LISTEN = "0A"
_LOOKS = 5


class NoFreePort(OSError):
    """No port of the loopback could be bound."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections that end do not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, *, rng: random.Random) -> int:
    """`preferred` if it is free, else a random free port of the loopback.

    Raises:
        NoFreePort: 100 tries found none.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(100):
        if is_free(port := rng.randint(_FIRST, _LAST)):
            return port
    raise NoFreePort(f"no free port found on {LOOPBACK} from {_FIRST} to {_LAST}")


class Ports:
    """Free ports, each given once."""

    def __init__(self, rng: random.Random, *taken: int) -> None:
        self._rng = rng
        self._taken = set(taken)

    def next(self, preferred: int | None = None) -> int:
        """`preferred` if it is free, else a random free port. Raises `NoFreePort`."""
        port = free_port(preferred, rng=self._rng)
        while port in self._taken:
            port = free_port(rng=self._rng)
        self._taken.add(port)
        return port


def holder(port: int) -> str:
    """Who listens on `port`, for a person: "nginx (pid 812)"; empty if nobody, or where /proc does not say."""
    # The kernel's table skips lines while other connections come and go: who is not there may be so at the next look.
    sockets = next(filter(None, (_listening(port) for _ in range(_LOOKS))), set())
    for directory in Path("/proc").glob("[0-9]*") if sockets else ():
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if any(_link(entry) in sockets for entry in (directory / "fd").iterdir()):
                return f"{(directory / 'comm').read_text().strip()} (pid {directory.name})"
    return ""


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # closed meanwhile
        return ""


def _listening(port: int) -> set[str]:
    """The sockets that listen on `port`, as links in /proc name them: "socket:[48151]"."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
