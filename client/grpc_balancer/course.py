"""The course of one call as gRFC A66 and A96 count it, for a listener: its attempts, their kinds, the time between.

An attempt begins when it begins to look for an endpoint (A66: "including the time it takes to pick a subchannel"), so
that a call which finds none has made one too. No I/O, and no hold on the call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from grpc import StatusCode

from grpc_balancer.endpoint import Route
from grpc_balancer.listener import CallSummary, Listener
from grpc_registry import Instance


class Course:
    """Of one call, which has just been made. `clock` is in seconds.

    `previous` is everywhere the number that gRFC A6 announces: of attempts that went before and count. One that begins
    with a number which was had already takes the place of an attempt that reached nobody.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_due",
        "_hedged",
        "_idle",
        "_idle_since",
        "_listener",
        "_looking_since",
        "_most_previous",
        "_over",
        "_route",
        "_running",
        "_transparent",
    )

    def __init__(self, listener: Listener, route: Route, clock: Callable[[], float], *, hedged: bool) -> None:
        self._listener = listener
        self._route = route
        self._clock = clock
        self._hedged = hedged
        self._over = False
        self._running = 0
        self._most_previous = -1
        self._transparent = 0
        self._idle = 0.0
        self._idle_since: float | None = None
        self._due: tuple[float, int] | None = None  # the next attempt, which is put off: when, and its number
        self._looking_since: float | None = None
        self._began = clock()
        self._begin(self._began, 0)

    def found(self, instance: Instance, previous: int) -> Callable[[StatusCode | None], None]:
        """An attempt has its endpoint. Returns what to call at its end, with its status."""
        now = self._clock()
        if self._looking_since is None:
            self._begin(now if self._due is None else min(self._due[0], now), previous)
        began, self._looking_since = self._looking_since, None
        self._running += 1
        self._listener.picked(instance)
        return partial(self._attempt_ended, now if began is None else began)

    def looks_again(self, delay: float, previous: int) -> None:
        """After so many seconds another attempt looks for an endpoint. One that still looks has found none."""
        now = self._clock()
        self._end_search(now, StatusCode.UNAVAILABLE)
        if delay:
            self._due = now + delay, previous
        else:
            self._begin(now, previous)

    def ended(self, code: StatusCode | None) -> None:
        """The call is over. Idempotent."""
        if self._over:
            return
        self._over = True
        now = self._clock()
        if self._due is not None and now < self._due[0]:
            self._due = None  # an attempt that was not made
        self._end_search(now, code)
        repeats = self._most_previous
        summary = CallSummary(
            now - self._began,
            retries=0 if self._hedged else repeats,
            transparent_retries=self._transparent,
            hedges=repeats if self._hedged else 0,
            retry_delay=self._idle,
        )
        self._listener.call_ended(self._route, code or StatusCode.UNKNOWN, summary)

    def _begin(self, at: float, previous: int) -> None:
        self._looking_since, self._due = at, None
        if previous > self._most_previous:
            self._most_previous = previous
        else:
            self._transparent += 1
        if self._idle_since is not None:
            self._idle += at - self._idle_since
            self._idle_since = None
        self._listener.attempt_started(self._route)

    def _end_search(self, now: float, code: StatusCode | None) -> None:
        if self._due is not None:
            at, previous = self._due
            self._begin(min(at, now), previous)
        if self._looking_since is not None:
            began, self._looking_since = self._looking_since, None
            self._running += 1
            self._attempt_ended(began, code)

    def _attempt_ended(self, began: float, code: StatusCode | None) -> None:
        now = self._clock()
        self._running -= 1
        if not self._running:
            self._idle_since = now
        self._listener.attempt_ended(self._route, code or StatusCode.UNKNOWN, now - began)
