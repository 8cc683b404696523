"""What callers hold of an RPC: a `grpc.Call` that is a `grpc.Future`, and for streams an iterator of responses.

They are apart from the `Rpc`, which the loop holds until its end, so that letting go of them is noticed and cancels the
call, as in grpc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

import grpc
from grpc import StatusCode

from grpc_balancer.sync.errors import CallError, Metadata
from grpc_balancer.sync.prefetched import END
from grpc_balancer.sync.rpc import Rpc
from grpc_balancer.sync.session import Session
from grpc_balancer.sync.streaming import StreamingRpc

Response = TypeVar("Response")

_ABANDONED = "Cancelled upon garbage collection!"
"""grpc's own words for it."""


class Call(grpc.Call, grpc.Future, Generic[Response]):  # type: ignore[type-arg]  # generic in the stubs alone
    """A call in progress, or ended. All of it may be used by any thread."""

    def __init__(self, rpc: Rpc, method: str, session: Session) -> None:
        self._rpc = rpc
        self._method = method
        self._session = session  # which is closed when nobody holds it any more, and the call with it

    def __del__(self) -> None:
        if not self._rpc.ended.is_set:
            self._rpc.thread.post(self._rpc.cancel, _ABANDONED)  # not here, which may be amid anything, locks held

    # grpc.Call

    def initial_metadata(self) -> Metadata:
        return self._rpc.initial_metadata()

    def trailing_metadata(self) -> Metadata:
        return self._rpc.trailing_metadata()

    def code(self) -> StatusCode:
        self._rpc.wait()
        return StatusCode.OK if self._rpc.error is None else self._rpc.error.code()

    def details(self) -> str:
        self._rpc.wait()
        return "" if self._rpc.error is None else self._rpc.error.details()

    def debug_error_string(self) -> str:
        """What gRPC knows beyond the details. Blocks until the end."""
        self._rpc.wait()
        return "" if self._rpc.error is None else self._rpc.error.debug_error_string()

    def is_active(self) -> bool:
        return not self._rpc.ended.is_set

    def time_remaining(self) -> float | None:  # type: ignore[override]  # the stubs leave out that it may be None
        return self._rpc.time_remaining()

    def cancel(self) -> bool:
        return self._rpc.cancel()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._rpc.add_callback(callback)

    # grpc.Future

    def cancelled(self) -> bool:
        return self._rpc.cancelled

    def running(self) -> bool:
        return not self._rpc.ended.is_set

    def done(self) -> bool:
        return self._rpc.ended.is_set

    def result(self, timeout: float | None = None) -> Response:
        error = self.exception(timeout)
        if error is not None:
            raise error
        response: Response = self._rpc.response
        return response

    def exception(self, timeout: float | None = None) -> CallError | None:
        if not self._rpc.wait(timeout):
            raise grpc.FutureTimeoutError
        if self._rpc.cancelled:
            raise grpc.FutureCancelledError
        return None if self._rpc.error is None else self._rpc.error.again()

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        error = self.exception(timeout)
        if error is None:
            return None
        try:
            raise error
        except CallError:
            return error.__traceback__

    def add_done_callback(self, fn: Callable[[grpc.Future[Response]], None]) -> None:
        if not self._rpc.add_callback(fn, self):
            fn(self)

    def __repr__(self) -> str:
        if not self._rpc.ended.is_set:
            state = "in progress"
        else:
            state = "OK" if self._rpc.error is None else f"{self._rpc.error.code().name} {self._rpc.error.details()!r}"
        return f"<{type(self).__name__} {self._method}: {state}>"


class ResponseStream(Call[None], Iterator[Response]):
    """A call whose responses are iterated. As a future it has no result, but an end."""

    _rpc: StreamingRpc

    def __init__(self, rpc: StreamingRpc, method: str, session: Session) -> None:
        super().__init__(rpc, method, session)

    def __next__(self) -> Response:
        try:
            response: Response = self._rpc.next_response()
        except KeyboardInterrupt:
            self._rpc.cancel()
            raise
        if response is not END:
            return response
        if self._rpc.error is None:
            raise StopIteration
        raise self._rpc.error.again()
