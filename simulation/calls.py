"""The calls of a simulated client: what `grpc_balancer`'s dispatcher, attempts and races do, as events in virtual time.

A call is placed at the endpoint picked. If it fails there, the production retry policy says when it is tried again, at
an endpoint not tried yet if there is one; under a hedging policy the production code says when it is sent once more. A
call that finds no endpoint waits while there is hope, and no call goes on beyond its deadline.
"""

from __future__ import annotations

import random
from typing import Protocol

from grpc import StatusCode

from grpc_balancer.balancer import Balancer
from grpc_balancer.failure import outcome_of
from grpc_balancer.hedge import Hedging
from grpc_balancer.load import Outcome
from grpc_balancer.outlook import Outlook
from grpc_balancer.retry import NEVER, Retrying, Throttle
from grpc_registry.service_config import HedgingPolicy, RetryPolicy, RetryThrottling
from simulation.clock import VirtualClock
from simulation.production import KEY, Connection, finished
from simulation.server import Server

METHOD = "/shop.product.v1.ProductService/GetProduct"
RETRY = RetryPolicy(3, 0.01, 0.1, 2.0, frozenset({StatusCode.UNAVAILABLE}))
HEDGING = HedgingPolicy(3, 0.1, frozenset({StatusCode.UNAVAILABLE}))
THROTTLING = RetryThrottling(10, 0.1)


class Surroundings(Protocol):
    """What a client is placed in."""

    clock: VirtualClock

    def one_way(self, zone: str, server: Server) -> float:
        """Seconds that a message takes."""

    def attempted(self, server: Server) -> None:
        """An attempt has started."""

    def ended(self, call: Call, code: StatusCode) -> None:
        """A call has ended."""


class Call:
    """One call, and what a picker may know of it. `work` is in seconds."""

    __slots__ = ("attempts", "began", "ended", "hedging", "metadata", "method", "retrying", "tried", "turn", "work")

    def __init__(self, work: float, key: str, began: float) -> None:
        self.method = METHOD
        self.metadata = ((KEY, key),)
        self.work = work
        self.began = began
        self.ended = False
        self.tried: frozenset[Connection] = frozenset()
        self.attempts: list[Attempt] = []
        """Those in progress."""
        self.retrying: Retrying | None = None
        self.hedging: Hedging | None = None
        self.turn = 0
        """Counts the timers set for the next hedge: only the last one matters."""


class Attempt:
    """One attempt of a call: on its way to a server, there, or on its way back."""

    __slots__ = ("_calls", "began", "call", "connection", "handle", "over", "work")

    def __init__(self, calls: Calls, call: Call, connection: Connection, began: float) -> None:
        self._calls = calls
        self.call = call
        self.connection = connection
        self.work = call.work
        self.began = began
        self.handle = connection.load.begin()
        self.over = False

    def answer(self, code: StatusCode) -> None:
        """The server, or the loss of the connection, sends this."""
        self._calls.answered(self, code)


class Calls:
    """All calls of one client. `deadline` is in seconds, for every call."""

    def __init__(
        self,
        balancer: Balancer[Connection],
        zone: str,
        deadline: float,
        around: Surroundings,
        rng: random.Random,
        *,
        hedged: bool,
    ) -> None:
        self._balancer = balancer
        self._zone = zone
        self._deadline = deadline
        self._around = around
        self._clock = around.clock
        self._rng = rng
        self._hedged = hedged
        self._throttle = Throttle(THROTTLING)
        self._waiting: dict[Call, None] = {}

    # A call begins

    def begin(self, call: Call) -> None:
        self._clock.after(self._deadline, self._expire, call)
        if self._hedged:
            call.hedging = Hedging(HEDGING, self._throttle)
        else:
            call.retrying = Retrying(RETRY, self._throttle, self._rng)
        self._place(call)

    def serve_waiting(self) -> None:
        """Something has changed: perhaps there is an endpoint now, or no hope for one."""
        waiting, self._waiting = list(self._waiting), {}
        for call in waiting:
            self._place(call)

    def _place(self, call: Call) -> None:
        if self._start(call):
            return
        if self._balancer.outlook(call.tried) is not Outlook.NONE:
            self._waiting[call] = None
        elif not self._tries_later(call):
            self._end(call, StatusCode.UNAVAILABLE)

    def _start(self, call: Call) -> bool:
        balancer, now = self._balancer, self._clock.now
        connection = balancer.pick_another(call, call.tried) if call.tried else balancer.pick(call)
        if connection is None:
            return False
        attempt = Attempt(self, call, connection, now)
        call.attempts.append(attempt)
        self._around.attempted(connection.server)
        self._clock.after(self._around.one_way(self._zone, connection.server), self._reach, attempt)
        if call.hedging is not None:
            call.tried |= {connection}
            call.hedging.sent(now)
            self._hedge(call, call.hedging)
        return True

    def _reach(self, attempt: Attempt) -> None:
        if not attempt.over:
            attempt.connection.server.arrive(attempt)

    # An attempt ends

    def answered(self, attempt: Attempt, code: StatusCode) -> None:
        """A status is on its way."""
        self._clock.after(
            self._around.one_way(self._zone, attempt.connection.server), self._attempt_ended, attempt, code
        )

    def _attempt_ended(self, attempt: Attempt, code: StatusCode) -> None:
        if attempt.over:
            return
        call = attempt.call
        self._release(attempt, outcome_of(code, None))
        if code is StatusCode.OK:
            self._throttle.succeeded()
            self._cancel_losers(call, attempt)
            self._end(call, code)
        elif not self._goes_on(call, attempt, code):
            self._end(call, code)

    def _goes_on(self, call: Call, attempt: Attempt, code: StatusCode) -> bool:
        if call.hedging is not None:
            fatal = call.hedging.failed(code, None, self._clock.now)
            return not fatal and self._hedge(call, call.hedging)
        call.tried |= {attempt.connection}
        return self._backs_off(call, code)

    def _release(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.over = True
        attempt.handle.end()
        attempt.call.attempts.remove(attempt)
        finished(self._balancer, attempt.connection, outcome, self._clock.now - attempt.began)

    def _cancel(self, attempt: Attempt, outcome: Outcome) -> None:
        self._release(attempt, outcome)
        server = attempt.connection.server
        self._clock.after(self._around.one_way(self._zone, server), server.leave, attempt)

    def _cancel_losers(self, call: Call, winner: Attempt) -> None:
        """As `race` has it: whoever lost to one that was sent later has failed, if by a head start long enough."""
        took = self._clock.now - winner.began
        for attempt in list(call.attempts):
            late = winner.began - attempt.began >= took
            self._cancel(attempt, Outcome.FAILED if late else Outcome.UNKNOWN)

    # The next attempt

    def _tries_later(self, call: Call) -> bool:
        """There is no endpoint, nor hope of one."""
        if call.hedging is None:
            return self._backs_off(call, StatusCode.UNAVAILABLE)
        hedging, now = call.hedging, self._clock.now
        hedging.sent(now)
        if hedging.failed(StatusCode.UNAVAILABLE, None, now):
            return False
        hedging.found_none(now)
        return self._hedge(call, hedging)

    def _backs_off(self, call: Call, code: StatusCode) -> bool:
        if call.retrying is None:
            return False
        delay = call.retrying.delay(code, None, repeatable=True, remaining=self._remaining(call))
        if delay == NEVER:
            return False
        self._clock.after(delay, self._end_backoff, call)
        return True

    def _end_backoff(self, call: Call) -> None:
        if not call.ended and not self._start(call):
            call.tried = frozenset()
            self._place(call)

    def _hedge(self, call: Call, hedging: Hedging) -> bool:
        """Send what is due, or see to it that it is sent in time. Whether there is any attempt to hope for."""
        call.turn += 1
        while True:
            alone, now = not call.attempts, self._clock.now
            wait = hedging.wait(now, alone=alone, remaining=self._remaining(call))
            if wait == NEVER:
                return not alone
            if wait:
                self._clock.after(wait, self._hedge_due, call, hedging, call.turn)
                return True
            if self._start_somewhere(call):
                return True
            if alone:
                self._waiting[call] = None
                return True
            hedging.found_none(now)

    def _hedge_due(self, call: Call, hedging: Hedging, turn: int) -> None:
        if not call.ended and turn == call.turn and not self._hedge(call, hedging):
            self._end(call, StatusCode.UNAVAILABLE)

    def _start_somewhere(self, call: Call) -> bool:
        """Start at an endpoint that was not tried, else at one that has no attempt in progress, else at any."""
        busy = frozenset(attempt.connection for attempt in call.attempts)
        for avoided in (call.tried | busy, busy, frozenset[Connection]()):
            call.tried = avoided
            if self._start(call):
                return True
        return False

    def _remaining(self, call: Call) -> float:
        return max(0.0, call.began + self._deadline - self._clock.now)

    # A call ends

    def _expire(self, call: Call) -> None:
        if not call.ended:
            for attempt in list(call.attempts):
                self._cancel(attempt, Outcome.FAILED)  # DEADLINE_EXCEEDED
            self._end(call, StatusCode.DEADLINE_EXCEEDED)

    def _end(self, call: Call, code: StatusCode) -> None:
        call.ended = True
        self._waiting.pop(call, None)
        for attempt in list(call.attempts):
            self._cancel(attempt, Outcome.UNKNOWN)
        self._around.ended(call, code)
