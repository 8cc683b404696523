"""What a stub gets for each method: called, it makes a call. Typed and named as grpc.aio's."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Generic

import grpc.aio
from grpc.aio import UsageError

from grpc_balancer.calls import Metadata, Request, Response, UnaryUnaryCall
from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import Route
from grpc_balancer.streams import StreamStreamCall, StreamUnaryCall, UnaryStreamCall

Requests = AsyncIterable[Request] | Iterable[Request]


class MultiCallable(Generic[Request, Response]):
    """A method of a service, with its serializers."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        route: Route,
        serialize: Callable[[Request], bytes] | None,
        deserialize: Callable[[bytes], Response] | None,
    ) -> None:
        self.route = route
        self._dispatcher = dispatcher
        self._serialize = serialize
        self._deserialize = deserialize

    def renamed(self, method: str) -> MultiCallable[Request, Response]:
        """The same for another method, to which an interceptor has sent a call."""
        kind, _, registered = self.route
        return type(self)(self._dispatcher, (kind, method, registered), self._serialize, self._deserialize)

    def _arguments(
        self,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> tuple[Any, ...]:
        """What every call is made with. Refuses here and now what no attempt could be made with."""
        if metadata is not None:
            metadata = grpc.aio.Metadata(*metadata)  # as it is now, for later attempts too
        if credentials is not None and not self._dispatcher.secure:
            raise UsageError("Call credentials are only valid on secure channels")
        shared = (self._dispatcher, self.route, self._deserialize)
        return (*shared, timeout, metadata, credentials, wait_for_ready, compression)

    def _serialized(self, request: Request) -> bytes:
        return request if self._serialize is None else self._serialize(request)  # type: ignore[return-value]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.route[1]}>"


class UnaryUnaryMultiCallable(MultiCallable[Request, Response], grpc.aio.UnaryUnaryMultiCallable[Request, Response]):
    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryUnaryCall[Request, Response]:
        arguments = self._arguments(timeout, metadata, credentials, wait_for_ready, compression)
        return UnaryUnaryCall(self._serialized(request), *arguments)


class UnaryStreamMultiCallable(MultiCallable[Request, Response], grpc.aio.UnaryStreamMultiCallable[Request, Response]):
    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryStreamCall[Request, Response]:
        arguments = self._arguments(timeout, metadata, credentials, wait_for_ready, compression)
        return UnaryStreamCall(self._serialized(request), *arguments)


class StreamUnaryMultiCallable(MultiCallable[Request, Response], grpc.aio.StreamUnaryMultiCallable[Request, Response]):
    def __call__(
        self,
        request_iterator: Requests[Request] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamUnaryCall[Request, Response]:
        arguments = self._arguments(timeout, metadata, credentials, wait_for_ready, compression)
        return StreamUnaryCall(request_iterator, self._serialize, *arguments)


class StreamStreamMultiCallable(
    MultiCallable[Request, Response], grpc.aio.StreamStreamMultiCallable[Request, Response]
):
    def __call__(
        self,
        request_iterator: Requests[Request] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamStreamCall[Request, Response]:
        arguments = self._arguments(timeout, metadata, credentials, wait_for_ready, compression)
        return StreamStreamCall(request_iterator, self._serialize, *arguments)
