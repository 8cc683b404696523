"""Responses between the loop, which receives them, and the thread that reads them: a queue with a bound."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from grpc_balancer.sync.latch import wait_heeding_signals

AT_MOST = 16
"""How many responses are received ahead of their reader. Then the stream waits, and HTTP/2 makes the server wait."""

END: Any = object()
LATE: Any = object()


class Prefetched:
    """Thread-safe. Only `take` waits."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._full = False

    def put(self, message: Any) -> bool:
        """Add a message; whether there is room for more. If not, a `take` will say when there is."""
        with self._changed:
            self._messages.append(message)
            self._full = len(self._messages) >= AT_MOST
            self._changed.notify()
            return not self._full

    def end(self, *, discard: bool) -> None:
        """No more will come, and `take` gives out what there is, or nothing at all with `discard`."""
        with self._changed:
            self._ended = True
            if discard:
                self._messages.clear()
            self._changed.notify_all()

    def take(self, timeout: float | None) -> tuple[Any, bool]:
        """The next message, or END, or LATE after `timeout` seconds; and whether there is room again, told once."""
        with self._changed:
            if not wait_heeding_signals(self._come, timeout):
                return LATE, False
            message = self._messages.popleft() if self._messages else END
            room = self._full and len(self._messages) <= AT_MOST // 2
            if room:
                self._full = False
            return message, room

    def _come(self, seconds: float | None) -> bool:
        return self._changed.wait_for(lambda: bool(self._messages) or self._ended, seconds)
