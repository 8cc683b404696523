"""Free ports for servers that must know their port before they start, and keep it over a restart."""

from __future__ import annotations

import os
import random
import socket

# The shop draws its ports from 24000 on (`shop_services.launch.ports`). Of those below, each of the processes that
# tests may run in has its part, since a port that one draws is not bound at once. All are below the range that the
# kernel gives to outgoing connections (32768 on Linux): while a server is down in a test, no client takes its port.
_FIRST, _LAST = 10_000, 24_000
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OWN = (_LAST - _FIRST) // _PROCESSES

_draw = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, and that this process was not given before.

    Raises:
        OSError: no free port was found in 1,000 tries.
    """
    first = _FIRST + _OWN * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _PROCESSES)
    for _ in range(1000):
        port = first + _draw.randrange(_OWN)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"no free port from {first} to {first + _OWN}")
