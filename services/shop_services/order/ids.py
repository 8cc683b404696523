"""Ids of orders: UUIDs of version 7, so that their order as text is the order in which they were given."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from random import Random


class OrderIds:
    """Gives ids that grow with the clock's nanoseconds, and, while one instance gives them, without exception.

    `clock` gives nanoseconds since the Unix epoch. Where it stands still or goes back, ids go on from the last one.
    """

    def __init__(self, clock: Callable[[], int], random: Random) -> None:
        self._clock = clock
        self._random = random
        self._last = 0

    def __call__(self) -> str:
        # RFC 9562, 6.2, method 3: the 12 bits after the milliseconds hold a fraction of one, here in steps of 1/4096.
        ticks = max(self._clock() * 4096 // 1_000_000, self._last + 1)
        self._last = ticks
        milliseconds, fraction = divmod(ticks, 4096)
        tail = self._random.getrandbits(62)
        return uuid.UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | tail).hex
