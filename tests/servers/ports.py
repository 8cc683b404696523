"""Free ports for servers that must know their port before they start, and keep it over a restart."""

from __future__ import annotations

import random
import socket

# Below the range that the kernel gives to outgoing connections (32768 on Linux), so that while a server is down in a
# test, no client's socket can take its port.
_FIRST, _LAST = 10_000, 32_000

_draw = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, and that this process was not given before.

    Raises:
        OSError: no free port was found in 1,000 tries.
    """
    for _ in range(1000):
        port = _draw.randint(_FIRST, _LAST)
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
    raise OSError(f"no free port from {_FIRST} to {_LAST}")
