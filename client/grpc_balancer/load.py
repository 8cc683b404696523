"""What an endpoint's own calls tell of it: how many are in progress, how they failed, how long they took.

`Load` belongs to the endpoint, and so survives every change of the set. Nothing increments and decrements by hand:
whoever begins a call holds a `Handle`, and ending it twice is ending it once, so a call that finishes, is cancelled,
runs out of time or is abandoned cannot be counted wrong.

**Failures weigh like load.** An endpoint that fails at once holds its calls for no time, looks idle, and would attract
all of them. So a failed call goes on to count, as a `penalty` that begins at 1 and halves every two seconds: as if it
were held for three seconds more, in the mean. By Little's law the endpoint then gets as few calls as one that is that
slow, whatever the rate of calls is, and the penalty stops growing at what the others have in progress. A success takes
nothing away, lest an endpoint that fails every second call looks well. `tests/unit/client/test_load.py` has the
simulation that chose both numbers.

**Latency** is pessimistic, as Finagle's peak EWMA is: the slowest of the latest answers, each of which fades over ten
seconds. So a slow answer counts at once, and an endpoint that was slow is tried again after a while. Its logarithm is
kept with the time of the answer in it, since `ln(x * e^-(age / 10))` is `ln(x) + answered / 10 - now / 10`: one number
to fetch for a pick, and fading is no work.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable

PENALTY_HALF_LIFE = 2.0
"""Seconds in which a failure comes to weigh half."""

MOST_PENALTY = 1000.0
"""An endpoint that had all the calls of a busy client, and failed them, is as others again after ten half-lives."""

LATENCY_DECAY = 10.0
"""Seconds in which an answer's latency fades to 1/e (Finagle's and linkerd's default)."""

_NEGLIGIBLE = 1 / 32
_LEAST_LATENCY = 1e-7
"""Seconds; what has faded to less, 10 ms within two minutes, is forgotten. It would make an endpoint look free."""


class Outcome(enum.Enum):
    """What the end of an attempt says about the endpoint that had it."""

    SUCCEEDED = "it answered, be it that the application refuses the request"
    FAILED = "it failed, in a way for which a server, its load or its connection may be to blame"
    BUSY = "it has too much to do, and says when to come back"
    UNKNOWN = "the caller gave up first"


class Load:
    """Calls in progress on one endpoint, and the statistics of those that ended. Times are seconds of `clock`."""

    __slots__ = ("_failed_at", "_latency", "clock", "count", "failures", "waiters")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.count = 0
        """Calls in progress, which handles count. Read it at each pick."""
        self.failures = 0.0
        """Above 0 while there may be a `penalty`. Look here first: it is nearly always 0, and needs no clock."""
        self.waiters: list[asyncio.Future[None]] = []
        """Whom to tell when `count` becomes zero: handles do."""
        self._failed_at = 0.0
        self._latency = -math.inf  # the logarithm, as above

    # Calls in progress

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

    # Calls that ended

    def record(self, outcome: Outcome, elapsed: float | None) -> None:
        """Take the end of an attempt that took `elapsed` seconds; None if its length was not the endpoint's doing.

        A long stream is no slow answer: give None for it.
        """
        now = self.clock()
        if outcome in (Outcome.FAILED, Outcome.BUSY):
            self.failures = min(self.penalty + 1, MOST_PENALTY)
            self._failed_at = now
        # An answer would have taken longer than what was not answered, nobody knows how much: that can raise an
        # estimate, but not make one.
        if elapsed is not None and (outcome is Outcome.SUCCEEDED or self.latency(now)):
            latency = math.log(max(elapsed, 2 * _LEAST_LATENCY)) + now / LATENCY_DECAY
            if latency > self._latency:
                self._latency = latency

    @property
    def penalty(self) -> float:
        """What recent failures weigh, in calls in progress."""
        if not self.failures:
            return 0.0
        left: float = self.failures * 2 ** ((self._failed_at - self.clock()) / PENALTY_HALF_LIFE)
        if left < _NEGLIGIBLE:
            self.failures = left = 0.0
        return left

    def latency(self, now: float) -> float:
        """Seconds that an answer takes, pessimistically; 0 if none came lately. `now` is the clock's time."""
        latency = math.exp(self._latency - now / LATENCY_DECAY)
        return latency if latency > _LEAST_LATENCY else 0.0

    def adopt(self, other: Load) -> None:
        """Take over the statistics of an endpoint that was the same instance before, but not its calls."""
        self.failures, self._failed_at = other.failures, other._failed_at
        self._latency = other._latency

    def __repr__(self) -> str:
        penalty = f", penalty {self.penalty:.2f}" if self.penalty else ""
        latency = self.latency(self.clock())
        return f"<Load {self.count}{penalty}{f', {latency:.4f} s' if latency else ''}>"


class Handle:
    """One call in progress, counted from its creation until `end`."""

    __slots__ = ("_load",)

    def __init__(self, load: Load) -> None:
        load.count += 1
        self._load: Load | None = load

    def end(self) -> None:
        """The call is over, however it went. Idempotent."""
        load = self._load
        if load is not None:
            self._load = None
            load.count -= 1
            if load.waiters and not load.count:
                load.tell_idle()
