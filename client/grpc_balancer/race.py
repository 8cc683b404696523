"""The attempts of a hedged call, several at once, until one of them is the call.

`hedge` says when the next one is sent. An attempt becomes the call (the call is *committed* to it, as gRFC A6 has it)
by its headers, its first message, its success, or a failure that is final; the others are cancelled then.

**Who lost.** The calls of an endpoint that froze always lose, are always cancelled, and would say nothing against it.
So an attempt that lost to one that was sent later counts as failed, provided that its head start was at least as long
as the other one took altogether. Without that proviso a short hedging delay would accuse healthy endpoints by chance.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio
from grpc import StatusCode
from grpc.aio import EOF, AioRpcError

from grpc_balancer.attempt import Attempt, pushback_of
from grpc_balancer.dispatcher import Dispatcher, Waiting
from grpc_balancer.endpoint import Endpoint, Line
from grpc_balancer.failure import answer_of, cancelled_here, never_reached, reason
from grpc_balancer.headers import until_settled
from grpc_balancer.hedge import Hedging
from grpc_balancer.load import Outcome
from grpc_balancer.retry import NEVER, announce
from grpc_registry.service_config import HedgingPolicy


class Racing(Waiting, Protocol):
    """What a race needs of its call. It holds none, lest a call that its owner let go of lives on."""

    hears_early: bool
    """Whether headers can come before the end."""

    def attempt_at(self, endpoint: Endpoint, line: Line) -> Attempt: ...

    def send(self, attempt: Attempt, metadata: Any, timeout: float | None) -> Any:
        """Start grpc.aio's call; None if that failed, and the call with it."""

    def answer_of(self, native: Any) -> Coroutine[Any, Any, Any]:
        """The wait for the response, or for the first one of a stream."""

    def may_be_repeated(self) -> bool: ...

    def commit(self, native: Any, answer: asyncio.Task[Any]) -> None:
        """This is the call from now on."""


@dataclass(slots=True)
class _Run:
    """An attempt in progress: grpc.aio's call, and what is waited for."""

    native: Any
    answer: asyncio.Task[Any]
    headers: asyncio.Task[Any] | None = None
    heard_of: bool = False  # its headers have come, and are empty

    @property
    def has_answered(self) -> bool:
        """Whether there was a response."""
        answer = self.answer
        return answer.done() and not answer.cancelled() and not answer.exception() and answer.result() is not EOF


class Race:
    """Owned by one call, which hands itself in."""

    def __init__(self, policy: HedgingPolicy, dispatcher: Dispatcher) -> None:
        self.over = False
        """Whether one attempt has become the call, or the call ended without."""
        self._hedging = Hedging(policy, dispatcher.throttle)
        self._dispatcher = dispatcher
        self._running: dict[Attempt, _Run] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._empty_headers_will_do = False

    @property
    def connecting(self) -> Any:
        """The call of an attempt in progress; None if there is none."""
        return next((run.native for run in self._running.values() if not run.native.done()), None)

    @property
    def previous_attempts(self) -> int:
        """Of the next attempt: how many were sent."""
        return self._hedging.previous_attempts

    # Attempts begin

    def start(self, call: Racing, endpoint: Endpoint, timeout: float | None) -> None:
        """Send an attempt to `endpoint`, and see to the next one."""
        line, metadata, previous = endpoint.line, call.metadata, self._hedging.previous_attempts
        if previous:
            line, metadata = endpoint.line_for_retries, grpc.aio.Metadata(*announce(metadata, previous))
        attempt = call.attempt_at(endpoint, line)
        native = call.send(attempt, metadata, timeout)
        if native is None:
            return
        call.tried |= {endpoint}
        self._hedging.sent(attempt.started)
        loop = self._dispatcher.loop
        run = self._running[attempt] = _Run(native, loop.create_task(call.answer_of(native)))
        run.answer.add_done_callback(attempt.on_answer)
        if call.hears_early:
            self._listen(attempt, run, native.initial_metadata())
        self._go_on(call)

    def _go_on(self, call: Racing) -> bool:
        """Send what is due, or see to it that it is sent in time. Whether there is any attempt to hope for."""
        self._stop_timer()
        while True:
            clock, alone = self._dispatcher.clock, not self._running
            wait = self._hedging.wait(clock(), alone=alone, remaining=call.time_remaining())
            if wait == NEVER:
                return not alone
            if not wait and self._start_somewhere(call):
                return True  # which has gone on from there
            if alone:
                self._dispatcher.place_later(call, wait)
                return True
            if wait:
                # The attempts in progress, and they alone, keep the call if its owner does not.
                self._timer = self._dispatcher.loop.call_later(wait, _due, weakref.ref(call), self)
                return True
            self._hedging.found_none(clock())

    def due(self, call: Racing) -> None:
        """The time has come for another attempt."""
        self._go_on(call)

    def _start_somewhere(self, call: Racing) -> bool:
        """Start at an endpoint that was not tried, else at one that has no attempt in progress, else at any."""
        busy = frozenset(attempt.endpoint for attempt in self._running)
        for avoided in (call.tried | busy, busy, frozenset[Endpoint]()):
            call.tried = avoided
            if self._dispatcher.start_now(call):
                return True
        return False

    # Attempts make themselves heard

    def answered(self, call: Racing, attempt: Attempt, error: BaseException | None) -> None:
        """A message is here, or the error of an attempt, or grpc.aio could not even begin it."""
        run = self._running.get(attempt)
        if run is None or isinstance(error, AioRpcError) or (error is None and not run.has_answered):
            return  # else it has ended, or will in a moment
        self._commit(call, attempt, run, proven=error is None)
        if error is not None:
            run.native.cancel()  # grpc.aio gave it no status

    def heard_of(self, call: Racing, attempt: Attempt, headers: Any) -> None:
        """The headers are here, or the end, for which grpc.aio gives empty ones; or empty ones have settled."""
        run = self._running.get(attempt)
        if run is None or run.native.done():
            return
        if headers or run.heard_of:
            self._commit(call, attempt, run, proven=True)
            return
        run.heard_of = True
        if self._empty_headers_will_do:
            self._listen(attempt, run, until_settled(run.native))

    def commit_to_headers(self) -> None:
        """The owner asks for headers, and may wait for them before it goes on: let empty ones decide too."""
        if self._empty_headers_will_do:
            return
        self._empty_headers_will_do = True
        for attempt, run in self._running.items():
            if run.heard_of:
                self._listen(attempt, run, until_settled(run.native))

    def _listen(self, attempt: Attempt, run: _Run, headers: Coroutine[Any, Any, Any]) -> None:
        run.headers = self._dispatcher.loop.create_task(headers)
        run.headers.add_done_callback(attempt.on_headers)

    def commit_to(self, call: Racing, attempt: Attempt) -> None:
        """No other attempt can be made, nor go on."""
        if (run := self._running.get(attempt)) is not None:
            self._commit(call, attempt, run, proven=False)

    # Attempts end

    def ended(self, call: Racing, attempt: Attempt, code: StatusCode | None) -> bool:
        """An attempt is over. Whether the call is."""
        run = self._running.pop(attempt)
        if code is not StatusCode.OK and self._goes_on_without(call, attempt, run, code):
            return False
        self._commit(call, attempt, run, proven=code is StatusCode.OK)
        return True

    def _goes_on_without(self, call: Racing, attempt: Attempt, run: _Run, code: StatusCode | None) -> bool:
        native, endpoint, now = run.native, attempt.endpoint, self._dispatcher.clock()
        details = answer_of(native.details()) or ""
        if code is StatusCode.CANCELLED and endpoint.expelled:
            return bool(self._running)
        if never_reached(code, details, attempt.line.channel.get_state()) and call.may_be_repeated():
            endpoint.error = reason(details)
            self._hedging.unsent(now)
            if self._running:
                return self._go_on(call)
            self._dispatcher.place_again(call, endpoint)
            return True
        if code is None or cancelled_here(code, details):
            return False
        fatal = self._hedging.failed(code, pushback_of(native), now)
        # gRFC A6: committed when "the client receives Response-Headers".
        committed = run.has_answered or answer_of(native.initial_metadata()) or not call.may_be_repeated()
        return not fatal and not committed and self._go_on(call)

    def found_none(self, call: Racing, details: str) -> bool:
        """There is no endpoint, nor hope of one. Whether to try again later."""
        # gRFC A6: "If the pick result type was TRANSIENT_FAILURE, the RPC will be handled by the configured retry
        # policy." Another attempt at this moment would find the same, so it comes after the delay.
        now = self._dispatcher.clock()
        self._hedging.sent(now)
        if self._hedging.failed(StatusCode.UNAVAILABLE, None, now):
            return False
        self._hedging.found_none(now)
        wait = self._hedging.wait(now, alone=True, remaining=call.time_remaining())
        if wait == NEVER:
            return False
        self._dispatcher.place_later(call, wait)
        return True

    def _commit(self, call: Racing, attempt: Attempt, run: _Run, *, proven: bool) -> None:
        """The call is that attempt from now on. `proven`: it shows that an endpoint could answer in that time."""
        self._running.pop(attempt, None)
        now = self._dispatcher.clock()
        for other in self._running:
            late = proven and attempt.started - other.started >= now - attempt.started
            other.lost = Outcome.FAILED if late else Outcome.UNKNOWN
        if run.headers is not None:
            run.headers.cancel()
        self.stop()
        call.commit(run.native, run.answer)

    def stop(self) -> None:
        """Cancel all attempts that have not become the call."""
        self.over = True
        self._stop_timer()
        running, self._running = self._running, {}
        for attempt, run in running.items():
            attempt.leave()
            run.native.cancel()
            if run.headers is not None:
                run.headers.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __repr__(self) -> str:
        addresses = ", ".join(attempt.endpoint.instance.address for attempt in self._running)
        return f"{len(self._running)} attempts at {addresses}" if addresses else "waiting for an endpoint"


def _due(reference: weakref.ref[Any], race: Race) -> None:
    call = reference()
    if call is not None:
        race.due(call)
