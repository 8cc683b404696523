"""A call's attempts at endpoints: one starts, ends, and is followed by another, or its outcome is the call's.

The end of an attempt comes as a done callback, before anybody who waits for the call has noticed. What follows is
decided in it:

- If no server can have seen the attempt, the next one starts at once, at another endpoint (A6's "transparent retry").
- If one may have seen it, the service config's retry policy is asked. If it wants another attempt, that starts when the
  backoff is over, at an endpoint not tried yet if there is one; until then the call is an entry in the dispatcher.
- Else that was the last one.

A call under a hedging policy has several attempts at once, which are a `race`, until one of them becomes the call.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc import StatusCode
from grpc.aio import AioRpcError, UsageError

from grpc_balancer import deadlines
from grpc_balancer.attempt import Attempt, pushback_of
from grpc_balancer.course import Course
from grpc_balancer.deadlines import serving_deadline
from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import Endpoint, Line, Route
from grpc_balancer.failure import answer_of, cancelled_here, local_error, never_reached, reason
from grpc_balancer.race import Race
from grpc_balancer.retry import NEVER, Retrying, announce
from grpc_registry.service_config import UNSAID, MethodConfig, RetryPolicy

if TYPE_CHECKING:
    import asyncio

_FOR_EVER = 1e9
"""Seconds. A timeout that protobuf can hold may be longer than gRPC's clock can: it would be over at once."""

Metadata = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]


class Attempts:
    """The part of a call that makes the attempts, one at a time, or in a race."""

    tried: frozenset[Endpoint] = frozenset()
    timeout: float | None = None
    metadata: grpc.aio.Metadata | None = None
    wait_for_ready: bool | None = None
    hears_early = False
    """Whether headers can come before the end. Of a call without streams grpc.aio tells all at once."""

    # What most calls do not have is not set on each of them: every step on this way costs.
    deadline: float | None = None
    _credentials: grpc.CallCredentials | None = None
    _compression: grpc.Compression | None = None
    _retry: RetryPolicy | None = None
    _native: Any = None  # the current attempt's call; None while waiting or racing, and once `_error` is set
    _error: AioRpcError | None = None
    _committed = False  # the owner has something of a response: no other may follow
    _retrying: Retrying | None = None  # since the retry policy was first asked
    _race: Race | None = None
    _course: Course | None = None  # if anybody listens
    _done = False
    _callbacks: list[Callable[[Any], None]] | None = None
    _waiters: list[asyncio.Future[None]] | None = None  # for an attempt to start, or for the end

    def __init__(
        self,
        dispatcher: Dispatcher,
        route: Route,
        config: MethodConfig,
        deserialize: Callable[[bytes], Any] | None,
        request: Any,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._route = route
        self._deserialize = deserialize
        self._request = request
        if wait_for_ready is not None:
            self.wait_for_ready = wait_for_ready
        if config is not UNSAID:
            timeout = self._configure(config, timeout)
        if serving_deadline.get() is not None:
            timeout = deadlines.within(timeout)
        if timeout is not None:
            self.timeout = timeout
            self.deadline = dispatcher.clock() + timeout
        if metadata is not None:
            self.metadata = grpc.aio.Metadata(*metadata)  # as it is now, for later attempts too
        if credentials is not None:
            if not dispatcher.secure:
                raise UsageError("Call credentials are only valid on secure channels")
            self._credentials = credentials
        if compression is not None:
            self._compression = compression
        if dispatcher.listener is not None and not dispatcher.closed:  # else there is no call: `place` refuses it
            self._course = Course(dispatcher.listener, route, dispatcher.clock, hedged=self._race is not None)

    def _configure(self, config: MethodConfig, timeout: float | None) -> float | None:
        """Take what the service config says. Returns the timeout that counts."""
        self._retry = config.retry
        if config.hedging is not None and self._request is not None:  # what is given by `write()` cannot be sent twice
            self._race = Race(config.hedging, self._dispatcher)
        if self.wait_for_ready is None:
            self.wait_for_ready = config.wait_for_ready
        said = config.timeout
        if said is None or said > _FOR_EVER:
            return timeout
        # service_config.proto: "the minimum of the value specified here and the value set by the application"
        return said if timeout is None else min(timeout, said)

    @property
    def method(self) -> str:
        return self._route[1]

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - self._dispatcher.clock())

    def start(self, endpoint: Endpoint, timeout: float | None) -> None:
        """Make an attempt at `endpoint`, which may take `timeout` seconds."""
        if timeout is not None and timeout <= 0:  # over a connection that stands, C-core may still send it
            self.fail(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded before the call was sent")
            return
        if self._race is not None:
            self._race.start(self, endpoint, timeout)
            return
        line, metadata = endpoint.line, self.metadata
        if self._retrying is not None and self._retrying.previous_attempts:
            line = endpoint.line_for_retries
            metadata = grpc.aio.Metadata(*announce(metadata, self._retrying.previous_attempts))
        native = self.send(self.attempt_at(endpoint, line), metadata, timeout)
        if native is not None:
            self._native = native
            if self._waiters is not None:
                self._wake()

    def send(self, attempt: Attempt, metadata: grpc.aio.Metadata | None, timeout: float | None) -> Any:
        """Start grpc.aio's call for that attempt. None if that failed, and with it this call."""
        try:
            # Never with wait_for_ready: it is here that calls wait, for any endpoint, not in one endpoint's channel.
            line = attempt.line
            native = (line.multicallables.get(self._route) or line.multicallable(self._route))(
                self._outgoing(attempt),
                timeout=timeout,
                metadata=metadata,
                credentials=self._credentials,
                compression=self._compression,
            )
        except Exception as error:
            self._could_not_start(attempt, error)
            return None
        if self._course is not None:
            attempt.on_end = self._course.found(attempt.endpoint.instance, self._previous_attempts)
        native.add_done_callback(attempt.on_done)
        return native

    def _could_not_start(self, attempt: Attempt, error: Exception) -> None:
        attempt.never_began()
        self.fail(StatusCode.INTERNAL, f"the call could not be started: {error!r}")

    def attempt_ended(self, attempt: Attempt, native: Any, code: StatusCode | None) -> None:
        """The current attempt, or one of a race, is over: go on, or end."""
        if self._race is not None and not self._race.over and not self._race.ended(self, attempt, code):
            return
        if code is StatusCode.OK:
            if self._dispatcher.throttle is not None:
                self._dispatcher.throttle.succeeded()
            self._end()
        elif not self._goes_on(attempt, native, code):
            self._end()

    def _goes_on(self, attempt: Attempt, native: Any, code: StatusCode | None) -> bool:
        endpoint = attempt.endpoint
        details = answer_of(native.details()) or ""
        if code is StatusCode.CANCELLED and endpoint.expelled:
            address = endpoint.instance.address
            self.fail(StatusCode.UNAVAILABLE, f"{address} left the registry, and was given up before the call ended")
            return True
        if never_reached(code, details, attempt.line.channel.get_state()) and self.may_be_repeated():
            endpoint.error = reason(details)
            self._native = None
            self.tried |= {endpoint}
            self._dispatcher.place_again(self, endpoint)
            return True
        if self._retry is None or code is None or cancelled_here(code, details):
            return False
        return self._is_retried(code, endpoint, native)

    def _is_retried(self, code: StatusCode, endpoint: Endpoint, native: Any) -> bool:
        """Ask the retry policy, and back off if it says so."""
        said = pushback_of(native)
        # gRFC A6: committed when "the client receives Response-Headers". grpc.aio tells of them only by their content;
        # empty ones count once the owner has them.
        repeatable = self.may_be_repeated() and not answer_of(native.initial_metadata())
        if not self._backs_off(code, said, repeatable):
            return False
        self._native = None
        self.tried |= {endpoint}
        return True

    def find_none(self, details: str) -> None:
        """There is no endpoint, nor hope of one: back off, or end."""
        if self._race is not None:
            if not self._race.found_none(self, details):
                self.fail(StatusCode.UNAVAILABLE, details)
            return
        # gRFC A6: "If the pick result type was TRANSIENT_FAILURE, the RPC will be handled by the configured retry
        # policy."
        if not self._backs_off(StatusCode.UNAVAILABLE, None, self.may_be_repeated()):
            self.fail(StatusCode.UNAVAILABLE, details)

    def _backs_off(self, code: StatusCode, said: float | None, repeatable: bool) -> bool:
        if self._retry is None:
            return False
        if self._retrying is None:
            self._retrying = Retrying(self._retry, self._dispatcher.throttle, self._dispatcher.rng)
        delay = self._retrying.delay(code, said, repeatable=repeatable, remaining=self.time_remaining())
        if delay == NEVER:
            return False
        self._dispatcher.place_later(self, delay)
        return True

    def looks_again(self, delay: float) -> None:
        if self._course is not None:
            self._course.looks_again(delay, self._previous_attempts)

    @property
    def _previous_attempts(self) -> int:
        counting = self._race or self._retrying
        return 0 if counting is None else counting.previous_attempts

    def fail(self, code: StatusCode, details: str) -> None:
        """End without an attempt."""
        if self._race is not None:
            self._race.stop()
        self._native = None
        self._error = local_error(code, details)
        self._end()

    # What depends on the kind of call

    def attempt_at(self, endpoint: Endpoint, line: Line) -> Attempt:
        return Attempt(self._dispatcher, endpoint, line, self)

    def _outgoing(self, attempt: Attempt) -> Any:
        """The request, or the requests, for an attempt."""
        return self._request

    def answer_of(self, native: Any) -> Coroutine[Any, Any, Any]:
        """The wait for the response, or for the first one of a stream."""
        raise NotImplementedError

    def may_be_repeated(self) -> bool:
        """Whether another attempt could still send everything, and the owner has nothing of a response."""
        return not self._committed

    # For the race

    def attempt_answered(self, attempt: Attempt, error: BaseException | None) -> None:
        """An attempt has its first message, or failed."""
        if self._race is not None:
            self._race.answered(self, attempt, error)

    def attempt_heard_of(self, attempt: Attempt, headers: Any) -> None:
        """An attempt has its initial metadata."""
        if self._race is not None:
            self._race.heard_of(self, attempt, headers)

    def attempt_goes_alone(self, attempt: Attempt) -> None:
        """An attempt has had more requests than are kept for another."""
        # gRFC A6: committed when "the client's outgoing message has overflowed the gRPC client library's buffer".
        if self._race is not None:
            self._race.commit_to(self, attempt)

    def commit(self, native: Any, answer: asyncio.Task[Any]) -> None:
        """That attempt is the call from now on; `answer` is the wait for its first message."""
        self._native = native
        self._committed = True
        if self._waiters is not None:
            self._wake()

    # What the rest of a call makes of that

    def cancel(self) -> bool:
        raise NotImplementedError

    def _wake(self) -> None:
        """Let go on who waits for an attempt."""
        raise NotImplementedError

    def _end(self) -> None:
        """The call is over."""
        raise NotImplementedError
