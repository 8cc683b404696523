"""Virtual time: a heap of what will happen. Nothing waits; time is what the next event says it is."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class VirtualClock:
    """Called, it tells the time in seconds, as the production code wants its clock. Events at one moment keep order."""

    __slots__ = ("_count", "_events", "now")

    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    def at(self, moment: float, action: Callable[..., object], *arguments: Any) -> None:
        """Have `action` happen at `moment`, or now if that has passed."""
        self._count += 1
        heapq.heappush(self._events, (max(moment, self.now), self._count, action, arguments))

    def after(self, seconds: float, action: Callable[..., object], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, action, arguments))

    def run(self, until: float) -> None:
        """Let everything happen up to the moment `until`."""
        events, pop = self._events, heapq.heappop
        while events and events[0][0] <= until:
            self.now, _, action, arguments = pop(events)
            action(*arguments)
        self.now = until
