"""The call kinds with a stream: reads and writes go to the current attempt, which may change until a server is reached.

A stream that its owner lets go of unfinished is cancelled and no longer counted as load, as grpc.aio promises. (In
grpcio 1.85 such a call keeps itself alive until the server or the deadline ends it.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from grpc.aio import EOF, AioRpcError, UsageError

from grpc_balancer.attempts import Attempt, WeakAttempt
from grpc_balancer.calls import BalancedCall, Request, Response, UnaryResponse
from grpc_balancer.endpoint import Endpoint, Line
from grpc_balancer.requests import Requests

_MIXED_STYLES = "The iterator and read/write APIs may not be mixed on a single RPC."
_FINISHED = "RPC already finished."


class _Abandonable(BalancedCall[Request, Response]):
    def _attempt(self, endpoint: Endpoint, line: Line) -> Attempt:
        return WeakAttempt(endpoint, line, self)

    def __del__(self) -> None:
        if self._native is not None and not self._done:
            self._native.cancel()


class _StreamResponse(_Abandonable[Request, Response]):
    """A call whose responses are read, by `read()` or by iteration, never both."""

    _iterated: bool | None = None

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
            try:
                message = await native.read()
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
            self._committed = True
            return self._decoded(message)

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

    def __init__(self, *arguments: Any, serialize: Callable[[Request], bytes] | None) -> None:
        super().__init__(*arguments)
        self._serialize = serialize
        self._requests = None if self._request is None else Requests(self._request, serialize, self.method)

    def _outgoing(self) -> AsyncIterator[bytes] | None:
        return None if self._requests is None else self._requests.from_start()

    def _may_be_repeated(self) -> bool:
        first_is_here = not self._written if self._requests is None else self._requests.replayable
        return first_is_here and super()._may_be_repeated()

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


class StreamUnaryCall(
    _StreamRequest[Request, Response], UnaryResponse[Request, Response], grpc.aio.StreamUnaryCall[Request, Response]
):
    """A stream of requests, one response."""

    def _attempt(self, endpoint: Endpoint, line: Line) -> Attempt:
        # With an iterator it can end by itself, and does so even if nobody holds it, as a unary call does.
        return super()._attempt(endpoint, line) if self._requests is None else Attempt(endpoint, line, self)


class StreamStreamCall(
    _StreamRequest[Request, Response], _StreamResponse[Request, Response], grpc.aio.StreamStreamCall[Request, Response]
):
    """Both ways at once."""
