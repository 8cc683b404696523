"""Free ports for servers that must know their port before they start, and keep it over a restart."""

from __future__ import annotations

import os
import random

from shop_services.launch.ports import is_free

# The shop draws its ports from 24000 on (`shop_services.launch.ports`). Of those below, each of the processes that
# tests may run in has its part, since a port that one draws is not bound at once. All are below the range that the
# kernel gives to outgoing connections (32768 on Linux): while a server is down in a test, no client takes its port.
_FIRST, _LAST = 10_000, 24_000
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OWN = (_LAST - _FIRST) // _PROCESSES

_draw = random.SystemRandom()
_given: set[int] = set()


def free_port(count: int = 1) -> int:
    """A TCP port of the loopback that nobody listens on, and that this process was not given before.

    With a `count` it is the first of so many in a row, for programs that take the ports after it as well.

    Raises:
        OSError: no free port was found in 1,000 tries.
    """
    first = _FIRST + _OWN * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _PROCESSES)
    for _ in range(1000):
        port = first + _draw.randrange(_OWN - count + 1)
        row = range(port, port + count)
        if _given.isdisjoint(row) and all(is_free(one) for one in row):
            _given.update(row)
            return port
    raise OSError(f"no free port from {first} to {first + _OWN}")
