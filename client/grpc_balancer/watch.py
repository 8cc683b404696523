"""Looks at the connections of all endpoints: at once and often after a change, ten times a second at rest.

grpc.aio has something to await for this, `wait_for_state_change`, which is not used here: in grpcio 1.85 each wait
leaves an operation behind that outlives the channel for as long as anybody holds a call of it, and may come back to an
event loop that is closed, where it breaks the delivery of what comes after it. Looking costs 1 µs an endpoint. And no
call depends on how often: before a call is started, its endpoint is looked at anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.1
"""Seconds between two looks, doubling from the first to the longest while nothing changes."""


class Watch:
    """Calls `look` again and again, which returns whether there was a change. Stopped until the first `hurry`."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None

    def hurry(self) -> None:
        """Something has changed: look very soon."""
        self.stop()
        self._pause = FIRST_PAUSE
        self._timer = self._loop.call_later(self._pause, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._timer = self._loop.call_later(self._pause, self._tick)
        if self._look():
            self.hurry()
