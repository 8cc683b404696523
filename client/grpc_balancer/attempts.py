"""A call's attempts at endpoints: one starts, ends, and is followed by another, or its outcome is the call's.

The end of an attempt comes as a done callback, before anybody who waits for the call has noticed. What follows is
decided in it:

- If no server can have seen the attempt, the next one starts at once, at another endpoint (A6's "transparent retry").
- If one may have seen it, the service config's retry policy is asked. If it wants another attempt, that starts when the
  backoff is over, at an endpoint not tried yet if there is one; until then the call is an entry in the dispatcher.
- Else that was the last one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio
from grpc import StatusCode
from grpc.aio import AioRpcError, UsageError

from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import Endpoint, Line, Route
from grpc_balancer.failure import answer_of, cancelled_here, local_error, never_reached, reason
from grpc_balancer.load import Handle
from grpc_balancer.retry import NEVER, PUSHBACK, Retrying, pushback
from grpc_registry.service_config import MethodConfig

Metadata = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]


class Attempt(Handle):
    """The pick of an endpoint for a call, and its completion handle. It keeps the call alive, as grpc.aio does."""

    __slots__ = ("_call", "endpoint", "line")

    def __init__(self, endpoint: Endpoint, line: Line, call: Attempts) -> None:
        Handle.__init__(self, endpoint.load)
        self.endpoint = endpoint
        self.line = line
        self._call: Any = call

    def on_done(self, native: Any) -> None:
        """grpc.aio's call has its final status."""
        self.end()
        call, self._call = self._call, None
        if call is not None:
            call.attempt_ended(self, native)


class WeakAttempt(Attempt):
    """One that lets go of its call when nobody else holds it."""

    __slots__ = ()

    def __init__(self, endpoint: Endpoint, line: Line, call: Attempts) -> None:
        super().__init__(endpoint, line, call)
        self._call = weakref.ref(call)

    def on_done(self, native: Any) -> None:
        if self._call is not None:
            self._call = self._call()
        super().on_done(native)


class Attempts:
    """The part of a call that makes the attempts, one at a time."""

    tried: frozenset[Endpoint] = frozenset()
    _native: Any = None  # the current attempt's call; None while waiting, and once `_error` is set
    _error: AioRpcError | None = None
    _committed = False  # the owner has something of a response: no other may follow
    _retrying: Retrying | None = None  # since the retry policy was first asked

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
        if credentials is not None and not dispatcher.secure:
            raise UsageError("Call credentials are only valid on secure channels")
        if config.timeout is not None and (timeout is None or timeout > config.timeout):
            # service_config.proto: "the minimum of the value specified here and the value set by the application"
            timeout = config.timeout
        # As it is now, for later attempts too.
        self.metadata = None if metadata is None else grpc.aio.Metadata(*metadata)
        self.timeout = timeout
        self.wait_for_ready = config.wait_for_ready if wait_for_ready is None else wait_for_ready
        self._dispatcher = dispatcher
        self._route = route
        self._retry = config.retry
        self._deserialize = deserialize
        self._request = request
        self._deadline = None if timeout is None else dispatcher.clock() + timeout
        self._credentials = credentials
        self._compression = compression

    @property
    def method(self) -> str:
        return self._route[1]

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._dispatcher.clock())

    def start(self, endpoint: Endpoint, timeout: float | None) -> None:
        """Make an attempt at `endpoint`, which may take `timeout` seconds."""
        line, metadata = endpoint.line, self.metadata
        if self._retrying is not None and self._retrying.previous_attempts:
            line, metadata = endpoint.line_for_retries, grpc.aio.Metadata(*self._retrying.announce(metadata))
        attempt = self._attempt(endpoint, line)
        try:
            # Never with wait_for_ready: it is here that calls wait, for any endpoint, not in one endpoint's channel.
            self._native = native = line.multicallable(self._route)(
                self._outgoing(),
                timeout=timeout,
                metadata=metadata,
                credentials=self._credentials,
                compression=self._compression,
            )
        except Exception as error:
            attempt.end()
            self.fail(StatusCode.INTERNAL, f"the call could not be started: {error!r}")
            return
        native.add_done_callback(attempt.on_done)
        self._attempt_started()

    def attempt_ended(self, attempt: Attempt, native: Any) -> None:
        """The current attempt is over: go on, or end."""
        # What was sent over a connection that still stands was seen, so most ends need no further look.
        settled = self._retry is None and self._dispatcher.throttle is None
        if (settled and attempt.line.ready and not attempt.endpoint.expelled) or not self._goes_on(attempt, native):
            self._end()

    def _goes_on(self, attempt: Attempt, native: Any) -> bool:
        code, endpoint = answer_of(native.code()), attempt.endpoint
        if code is StatusCode.OK:
            if self._dispatcher.throttle is not None:
                self._dispatcher.throttle.succeeded()
            return False
        details = answer_of(native.details()) or ""
        if code is StatusCode.CANCELLED and endpoint.expelled:
            address = endpoint.instance.address
            self.fail(StatusCode.UNAVAILABLE, f"{address} left the registry, and was given up before the call ended")
            return True
        if never_reached(code, details, attempt.line.channel.get_state()) and self._may_be_repeated():
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
        said = pushback((answer_of(native.trailing_metadata()) or grpc.aio.Metadata()).get_all(PUSHBACK))
        # gRFC A6: committed when "the client receives Response-Headers". grpc.aio tells of them only by their content;
        # empty ones count once the owner has them.
        repeatable = self._may_be_repeated() and not answer_of(native.initial_metadata())
        if not self._backs_off(code, said, repeatable):
            return False
        self._native = None
        self.tried |= {endpoint}
        return True

    def find_none(self, details: str) -> None:
        """There is no endpoint, nor hope of one: back off, or end."""
        # gRFC A6: "If the pick result type was TRANSIENT_FAILURE, the RPC will be handled by the configured retry
        # policy."
        if not self._backs_off(StatusCode.UNAVAILABLE, None, self._may_be_repeated()):
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

    def fail(self, code: StatusCode, details: str) -> None:
        """End without an attempt."""
        self._native = None
        self._error = local_error(code, details)
        self._end()

    # What depends on the kind of call

    def _attempt(self, endpoint: Endpoint, line: Line) -> Attempt:
        return Attempt(endpoint, line, self)

    def _outgoing(self) -> Any:
        """The request, or the requests, for an attempt."""
        return self._request

    def _may_be_repeated(self) -> bool:
        """Whether another attempt could still send everything, and the owner has nothing of a response."""
        return not self._committed

    # What the rest of a call makes of that

    def cancel(self) -> bool:
        raise NotImplementedError

    def _attempt_started(self) -> None:
        """Let go on who waits for an attempt."""
        raise NotImplementedError

    def _end(self) -> None:
        """The call is over."""
        raise NotImplementedError
