"""How many calls may be in progress at once, found from how many end. Pure: the clock is passed in.

A server that is asked for more than it can do does not become faster by taking it all on: calls wait for each other,
and those that end are late. How many may be in progress then follows from Little's law, *in progress = rate * time*:
the rate is the highest of late at which calls have ended, the time is that which a call may take.

A call may take what it takes by itself, with some slack, and some waiting on top. What calls take by themselves is seen
where a call finds few others, whenever that is, and kept for each kind of call: a login takes a hundred times as long
as a look at a product.

Netflix' concurrency-limits and Envoy's adaptive concurrency compare what calls take now with that. But what a call took
tells of the limit at its beginning: where many wait that is long ago, and a limit that follows it swings. The rate is
known at once, as it is to the limiters of kratos and go-zero, and to BBR.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what the limit moves, and by which waiting. Times are in seconds.

    Raises:
        ValueError: they contradict each other.
    """

    least: int = 16
    """If calls wait even under a limit as low as this, it is not for each other: then it is what they take."""
    most: int = 1024
    first: int = 256
    """The limit until something is known: wide, since nothing is wrong yet."""
    delay: float = 0.1
    """What calls may wait for each other: nobody who looks at a screen notices, and bursts are no overload."""
    slack: float = 1.5
    """How many times as long as by itself a call may take, beside that."""
    window: float = 1.0
    """For how long calls are counted, at least, until they are a rate: calls end in clumps, above all after a pause."""
    memory: float = 5.0
    """For how long a rate counts as what can be done. That it is low since few are let in is no reason to let in fewer,
    nor is a pause of the process."""
    calm: float = 30.0
    """After so long without half as many in progress as may be, the limit is the first again: what was is over."""

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.first <= self.most:
            raise ValueError(f"{self}: least, first and most must be in this order, and at least 1")


_FEW = 4
"""What a call takes that finds fewer in progress is what it takes by itself."""
_CALLS = 10
"""A change of the limit is decided by so many calls at least."""
_STEP = 0.5
"""How far the limit goes at once towards what it should be: the rate in so short a time varies."""
_GAIN = 0.02
"""What one more call weighs in what a kind of call takes by itself: an average over the last fifty."""


class Slot:
    """The place of one call, held from `ConcurrencyLimit.begin` to `end`."""

    __slots__ = ("_alone", "_began", "_limit", "held")

    def __init__(self, limit: ConcurrencyLimit, began: float, alone: bool) -> None:
        self.held = True
        self._limit = limit
        self._began = began
        self._alone = alone

    def end(self, kind: str | None = None) -> None:
        """Give it back, once; further calls do nothing. Without a `kind` nothing is learned from it: it failed early.

        `kind` is one of a bounded number of names.
        """
        if self.held:
            self.held = False
            self._limit._ended(kind, self._began, self._alone)  # noqa: SLF001 - its own


class ConcurrencyLimit:
    """Admits calls while fewer than `limit` are in progress. Not thread-safe."""

    def __init__(self, bounds: Bounds | None = None, now: Callable[[], float] = monotonic) -> None:
        self.bounds = bounds or Bounds()
        self.limit = self.bounds.first
        self.in_progress = 0
        self.admitted = 0
        self.refused = 0
        """Both since the beginning; who refuses without asking `begin` counts here as well."""
        self._now = now
        self._usual: dict[str, tuple[float, int]] = {}  # what a kind takes by itself, and of how many that is known
        self._calls = 0  # that have ended in this window,
        self._allowed = 0.0  # and what they might have taken together
        self._rates: deque[tuple[float, float]] = deque()  # the latest of these by time: when, and how many in progress
        self._most_in_progress = 0
        self._window_began = 0.0
        self._pressed_at = 0.0

    @property
    def full(self) -> bool:
        """Whether the next call would be refused."""
        return self.in_progress >= self.limit

    def begin(self) -> Slot | None:
        """A place for a call; None: there is none, and the call is to be refused at once."""
        if self.in_progress >= self.limit:
            self.refused += 1
            return None
        now = self._now()
        if not self.in_progress:
            self._open_window(now)  # it had nothing to do: that is no rate
        alone = self.in_progress < _FEW or self.limit <= self.bounds.least
        self.in_progress += 1
        self.admitted += 1
        if self.in_progress > self._most_in_progress:
            self._most_in_progress = self.in_progress
        return Slot(self, now, alone)

    def _ended(self, kind: str | None, began: float, alone: bool) -> None:
        self.in_progress -= 1
        now = self._now()
        took = now - began
        if kind is None:
            self._allowed += took
        else:
            usual, known = self._usual.get(kind, (0.0, 0))
            if alone:
                known += 1
                usual += (took - usual) * max(_GAIN, 1 / known)
                self._usual[kind] = (usual, known)
            self._allowed += usual * self.bounds.slack + self.bounds.delay
        self._calls += 1
        if now - self._window_began >= self.bounds.window and self._calls >= _CALLS:
            self._change(now)

    def _change(self, now: float) -> None:
        rates = self._rates
        rates.append((now, self._allowed / (now - self._window_began)))
        while rates[0][0] < now - self.bounds.memory:
            rates.popleft()
        # While few are in progress the rate is that of the callers, and says nothing of what could be done.
        if 2 * self._most_in_progress >= self.limit:
            wanted = max(rate for _, rate in rates)
            changed = math.ceil(self.limit + _STEP * (wanted - self.limit))
            self.limit = max(self.bounds.least, min(self.bounds.most, changed))
            self._pressed_at = now
        self._open_window(now)

    def _open_window(self, now: float) -> None:
        self._window_began = now
        self._calls = 0
        self._allowed = 0.0
        self._most_in_progress = self.in_progress
        if now - self._pressed_at > self.bounds.calm:
            self.limit = self.bounds.first

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.in_progress} of {self.limit}, {self.refused} refused>"
