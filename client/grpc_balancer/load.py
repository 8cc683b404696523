"""Load as a handle that is held: `Outstanding` counts the calls that were begun and not ended.

Nothing increments and decrements by hand. Whoever begins a call holds a `Handle`, and ending it twice is ending it
once, so a call that finishes, is cancelled, runs out of time or is abandoned cannot be counted wrong.
"""

from __future__ import annotations

import asyncio
import enum


class Outcome(enum.Enum):
    """What the end of an attempt says about the endpoint that had it."""

    SUCCEEDED = "it answered, be it that the application refuses the request"
    FAILED = "it failed, in a way for which a server, its load or its connection may be to blame"
    UNKNOWN = "the caller gave up first"


class Outstanding:
    """Calls in progress on one endpoint. It belongs to the endpoint, and so survives every change of the set."""

    __slots__ = ("count", "waiters")

    def __init__(self) -> None:
        self.count = 0
        self.waiters: list[asyncio.Future[None]] = []
        """Whom to tell when `count` becomes zero: handles do."""

    def begin(self) -> Handle:
        """Count one more call until the returned handle is ended."""
        return Handle(self)

    async def wait_idle(self) -> None:
        """Return once no call is in progress. Bound it with a timeout: a stream may last for ever."""
        while self.count:
            waiter = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter

    def tell_idle(self) -> None:
        """End every `wait_idle`."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<Outstanding {self.count}>"


class Handle:
    """One call in progress, counted from its creation until `end`."""

    __slots__ = ("_load",)

    def __init__(self, load: Outstanding) -> None:
        load.count += 1
        self._load: Outstanding | None = load

    def end(self) -> None:
        """The call is over, however it went. Idempotent."""
        load = self._load
        if load is not None:
            self._load = None
            load.count -= 1
            if load.waiters and not load.count:
                load.tell_idle()
