"""One attempt of a call at an endpoint: counted as load while it lasts, and reported once when it has ended."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import grpc.aio
from grpc import StatusCode

from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import Endpoint, Line
from grpc_balancer.failure import answer_of, outcome_of
from grpc_balancer.load import Handle, Outcome
from grpc_balancer.retry import NEVER, PUSHBACK, pushback

HASTE = 0.1
"""Seconds. That an attempt had no more time than this says more of its caller than of the endpoint: whoever may choose
deadlines for others to call with, as the clients of a gateway, could else eject each instance by impossible ones."""
_ON_ITS_WAY = 0.01
"""Seconds that a call which is given `HASTE` may have lost of it before its attempt began."""


class Attempt(Handle):
    """The pick of an endpoint for a call, and its completion handle. It keeps the call alive, as grpc.aio does."""

    __slots__ = ("_call", "_deadline", "_dispatcher", "endpoint", "line", "lost", "on_end", "started")

    def __init__(self, dispatcher: Dispatcher, endpoint: Endpoint, line: Line, call: Any) -> None:
        # As `Handle.__init__` does. Every call comes through here, and each step of it costs.
        load = self._load = endpoint.load
        load.count += 1
        self.endpoint = endpoint
        self.line = line
        self.lost: Outcome | None = None
        """What it says of the endpoint if we cancelled it because another attempt was faster."""
        self.on_end: Callable[[StatusCode | None], None] | None = None
        """Whom to tell the status, if anybody counts attempts."""
        self.started = dispatcher.clock()
        self._deadline: float | None = call.deadline
        self._dispatcher = dispatcher
        self._call = call

    @property
    def call(self) -> Any:
        """Whose attempt this is, while that one cares."""
        return self._call

    def leave(self) -> None:
        """The call cares no more."""
        self._call = None

    def on_done(self, native: Any) -> None:
        """grpc.aio's call has its final status."""
        # Every call comes through here, and each step of it costs: `end` and `succeeded`, written out.
        load = self._load
        if load is not None:
            self._load = None
            load.count -= 1
            if load.waiters and not load.count:
                load.tell_idle()
        try:
            succeeded = native._cython_call.is_ok()  # noqa: SLF001 - a fifth of what asking for the code costs
        except AttributeError:
            succeeded = False
        code = StatusCode.OK if succeeded else answer_of(native.code())
        if code is StatusCode.OK and not self._dispatcher.wants_successes:
            record = self.endpoint.record
            record.successes += 1
            record.consecutive = 0
        else:
            self._report(code, native)
        if self.on_end is not None:
            self.on_end(code)
        call, self._call = self._call, None
        if call is not None:
            call.attempt_ended(self, native, code)

    def never_began(self) -> None:
        """grpc.aio has refused to make a call."""
        self.end()
        self._dispatcher.finished(self.endpoint, Outcome.UNKNOWN, None)

    def on_answer(self, answer: asyncio.Task[Any]) -> None:
        """The first message is here, or an error."""
        if answer.cancelled():
            return
        error = answer.exception()  # looked at in any case, lest asyncio complain that nobody did
        if (call := self.call) is not None:
            call.attempt_answered(self, error)

    def on_headers(self, headers: asyncio.Task[Any]) -> None:
        """The initial metadata is here, or the end of the attempt."""
        if headers.cancelled() or headers.exception() is not None:
            return
        if (call := self.call) is not None:
            call.attempt_heard_of(self, headers.result())

    def goes_alone(self) -> None:
        """No other attempt can have all of the requests any more."""
        if (call := self.call) is not None:
            call.attempt_goes_alone(self)

    def _report(self, code: StatusCode | None, native: Any) -> None:
        took = self._dispatcher.clock() - self.started
        elapsed = self._elapsed(took)
        if code is StatusCode.OK:
            self._dispatcher.finished(self.endpoint, Outcome.SUCCEEDED, elapsed)
        else:
            details = answer_of(native.details()) or ""
            self._dispatcher.finished(self.endpoint, self._outcome(code, details, native, took), elapsed, details)

    def _outcome(self, code: StatusCode | None, details: str, native: Any, took: float) -> Outcome:
        outcome = outcome_of(code, details)
        if code is StatusCode.DEADLINE_EXCEEDED:
            # A caller who is busy hears of it late: it took longer than the attempt was given.
            given = took if self._deadline is None else self._deadline - self.started + _ON_ITS_WAY
            if min(took, given) < HASTE:
                return Outcome.UNKNOWN
        if outcome is Outcome.FAILED and (said := pushback_of(native)) is not None and said is not NEVER:
            return Outcome.BUSY  # else the more there is to do for all, the fewer of them would do it
        return self.lost if outcome is Outcome.UNKNOWN and self.lost is not None else outcome

    def _elapsed(self, elapsed: float) -> float | None:
        return elapsed


class StreamAttempt(Attempt):
    """One that lasts as long as its owner likes. Only the time to the first message, if known, says anything."""

    __slots__ = ("first_message",)

    def __init__(self, dispatcher: Dispatcher, endpoint: Endpoint, line: Line, call: Any) -> None:
        super().__init__(dispatcher, endpoint, line, call)
        self.first_message: float | None = None
        """Seconds it took."""

    def _elapsed(self, elapsed: float) -> float | None:
        return elapsed if self.lost is Outcome.FAILED else self.first_message


class WeakAttempt(StreamAttempt):
    """One that lets go of its call when nobody else holds it."""

    __slots__ = ()

    def __init__(self, dispatcher: Dispatcher, endpoint: Endpoint, line: Line, call: Any) -> None:
        super().__init__(dispatcher, endpoint, line, call)
        self._call = weakref.ref(call)

    @property
    def call(self) -> Any:
        return None if self._call is None else self._call()

    def on_done(self, native: Any) -> None:
        self._call = self.call
        super().on_done(native)


def pushback_of(native: Any) -> float | None:
    """What the server said of trying again, as `pushback` has it, with the status of grpc.aio's finished call."""
    return pushback((answer_of(native.trailing_metadata()) or grpc.aio.Metadata()).get_all(PUSHBACK))
