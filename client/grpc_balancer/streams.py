"""The call kinds with a stream: reads and writes go to the current attempt, which may change until a server is reached.

A stream that its owner lets go of unfinished is cancelled and no longer counted as load, as grpc.aio promises. (In
grpcio 1.85 such a call keeps itself alive until the server or the deadline ends it.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc.aio
from grpc import StatusCode
from grpc.aio import EOF, AioRpcError, UsageError

from grpc_balancer.attempt import Attempt, StreamAttempt, WeakAttempt
from grpc_balancer.calls import BalancedCall, Request, Response, UnaryResponse
from grpc_balancer.endpoint import Endpoint, Line
from grpc_balancer.requests import Requests, SharedRequests

_MIXED_STYLES = "The iterator and read/write APIs may not be mixed on a single RPC."
_FINISHED = "RPC already finished."


class _Abandonable(BalancedCall[Request, Response]):
    hears_early = True

    def attempt_at(self, endpoint: Endpoint, line: Line) -> Attempt:
        return WeakAttempt(self._dispatcher, endpoint, line, self)

    def __del__(self) -> None:
        if not self._done:
            if self._native is not None:
                self._native.cancel()
            elif self._race is not None:
                self._race.stop()
            if self._course is not None:
                # Later, since this may be anywhere, even in the midst of what listens.
                with suppress(RuntimeError):  # no loop any more, and nobody who counts
                    self._dispatcher.loop.call_soon_threadsafe(self._course.ended, StatusCode.CANCELLED)


class _StreamResponse(_Abandonable[Request, Response]):
    """A call whose responses are read, by `read()` or by iteration, never both."""

    _iterated: bool | None = None
    _answer: asyncio.Task[Any] | None = None  # the race's wait for the first response, before the owner's

    def __aiter__(self) -> AsyncIterator[Response]:
        self._use(iteration=True)
        return _Responses(self)

    async def read(self) -> Any:
        if not self._done:
            self._use(iteration=False)
        return await self.receive()

    async def receive(self) -> Any:
        """The next response, or `grpc.aio.EOF`."""
        while True:
            native = await self._current()
            answer, self._answer = self._answer, None
            asked = 0.0 if self._committed else self._dispatcher.clock()
            try:
                message = await (native.read() if answer is None else answer)
            except (AioRpcError, asyncio.CancelledError):
                if self._moved_on(native):
                    continue
                self.cancel()
                raise
            except BaseException:
                native.cancel()  # grpc.aio could not send it, and gave it no status
                raise
            if message is EOF:
                return EOF
            if not self._committed:
                self._committed = True
                self._first_message_came(asked)
            return self._decoded(message)

    def answer_of(self, native: Any) -> Coroutine[Any, Any, Any]:
        read: Coroutine[Any, Any, Any] = native.read()
        return read

    def commit(self, native: Any, answer: asyncio.Task[Any]) -> None:
        self._answer = answer
        super().commit(native, answer)

    def _first_message_came(self, asked: float) -> None:
        """The owner has the first message, which it waits for since `asked`."""

    def _use(self, *, iteration: bool) -> None:
        if self._iterated is (not iteration):
            raise UsageError(_MIXED_STYLES)
        self._iterated = iteration


class _Responses(AsyncIterator[Response]):
    """Iterates a call. The call does not hold it, so that letting go of both is noticed at once."""

    def __init__(self, call: _StreamResponse[Any, Response]) -> None:
        self._call = call

    async def __anext__(self) -> Response:
        response: Response = await self._call.receive()
        if response is EOF:
            raise StopAsyncIteration
        return response


class _StreamRequest(_Abandonable[Request, Response]):
    """A call whose requests come from an iterator, or by `write()`."""

    _written = False
    _requests: Requests | None = None

    def __init__(self, *arguments: Any, serialize: Callable[[Request], bytes] | None) -> None:
        super().__init__(*arguments)
        self._serialize = serialize
        if self._request is not None:
            kept = Requests if self._race is None else SharedRequests
            self._requests = kept(self._request, serialize, self.method)

    def _outgoing(self, attempt: Attempt) -> AsyncIterator[bytes] | None:
        return None if self._requests is None else self._requests.from_start(attempt.goes_alone)

    def may_be_repeated(self) -> bool:
        first_is_here = not self._written if self._requests is None else self._requests.replayable
        return first_is_here and super().may_be_repeated()

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
        super()._end()

    def __del__(self) -> None:
        super().__del__()
        if self._requests is not None:
            self._requests.close()

    async def write(self, request: Request) -> None:
        message = request if self._serialize is None else self._serialize(request)
        if self._done and self._native is None:
            raise asyncio.InvalidStateError(_FINISHED)
        await self._send("write", message)

    async def done_writing(self) -> None:
        if not self._done:
            await self._send("done_writing")

    async def _send(self, what: str, *message: Any) -> None:
        if self._requests is not None:
            raise UsageError(_MIXED_STYLES)
        while True:
            native = await self._current()
            try:
                await getattr(native, what)(*message)
            except (AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                if self._moved_on(native):
                    continue
                raise
            if native is self._native:
                self._written = True
                return

    @property
    def _done_writing_flag(self) -> bool:
        """Read by grpc.aio where interceptors stand between the caller's `write()` and this call."""
        return self._requests is not None and self._requests.exhausted


class UnaryStreamCall(_StreamResponse[Request, Response], grpc.aio.UnaryStreamCall[Request, Response]):
    """One request, a stream of responses."""

    _attempt: StreamAttempt | None = None

    def attempt_at(self, endpoint: Endpoint, line: Line) -> Attempt:
        self._attempt = attempt = WeakAttempt(self._dispatcher, endpoint, line, self)
        return attempt

    def _first_message_came(self, asked: float) -> None:
        # When a message has come is known only if the owner was waiting for it: for most of the time will do.
        now, attempt = self._dispatcher.clock(), self._attempt
        if attempt is not None and now - asked >= asked - attempt.started:
            attempt.first_message = now - attempt.started

    def attempt_answered(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is None and isinstance(attempt, StreamAttempt):
            attempt.first_message = self._dispatcher.clock() - attempt.started
        super().attempt_answered(attempt, error)


class StreamUnaryCall(
    _StreamRequest[Request, Response], UnaryResponse[Request, Response], grpc.aio.StreamUnaryCall[Request, Response]
):
    """A stream of requests, one response."""

    def attempt_at(self, endpoint: Endpoint, line: Line) -> Attempt:
        # With an iterator it can end by itself, and does so even if nobody holds it, as a unary call does.
        kind = WeakAttempt if self._requests is None else StreamAttempt
        return kind(self._dispatcher, endpoint, line, self)


class StreamStreamCall(
    _StreamRequest[Request, Response], _StreamResponse[Request, Response], grpc.aio.StreamStreamCall[Request, Response]
):
    """Both ways at once."""
