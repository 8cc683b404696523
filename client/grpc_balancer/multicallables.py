"""What a stub gets for each method: called, it makes a call. Typed and named as grpc.aio's."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Generic

import grpc.aio

from grpc_balancer.attempts import Metadata
from grpc_balancer.calls import Request, Response, UnaryUnaryCall
from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import Route
from grpc_balancer.streams import StreamStreamCall, StreamUnaryCall, UnaryStreamCall
from grpc_registry.service_config import MethodConfig

Requests = AsyncIterable[Request] | Iterable[Request]


class MultiCallable(Generic[Request, Response]):
    """A method of a service, with its serializers and what the service config says of it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        route: Route,
        serialize: Callable[[Request], bytes] | None,
        deserialize: Callable[[bytes], Response] | None,
    ) -> None:
        self.route = route
        self._dispatcher = dispatcher
        self._configured_by = dispatcher.config
        self._config = self._configured_by.method(route[1])
        self._serialize = serialize
        self._deserialize = deserialize

    def renamed(self, method: str) -> MultiCallable[Request, Response]:
        """The same for another method, to which an interceptor has sent a call."""
        kind, _, registered = self.route
        return type(self)(self._dispatcher, (kind, method, registered), self._serialize, self._deserialize)

    def _current(self) -> MethodConfig:
        """What the service config says now. A call keeps what held when it was made."""
        if self._dispatcher.config is not self._configured_by:
            self._configured_by = self._dispatcher.config
            self._config = self._configured_by.method(self.route[1])
        return self._config

    def _make(self, kind: Callable[..., Any], request: Any, *arguments: Any, **named: Any) -> Any:
        call = kind(self._dispatcher, self.route, self._current(), self._deserialize, request, *arguments, **named)
        self._dispatcher.place(call)
        return call

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
        # As in `_make`, but written out: most calls come this way, and each step of it costs.
        call: UnaryUnaryCall[Request, Response] = UnaryUnaryCall(
            self._dispatcher,
            self.route,
            self._config if self._dispatcher.config is self._configured_by else self._current(),
            self._deserialize,
            request if self._serialize is None else self._serialize(request),
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )
        self._dispatcher.place(call)
        return call


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
        arguments = (timeout, metadata, credentials, wait_for_ready, compression)
        call: UnaryStreamCall[Request, Response]
        call = self._make(UnaryStreamCall, self._serialized(request), *arguments)
        return call


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
        arguments = (timeout, metadata, credentials, wait_for_ready, compression)
        call: StreamUnaryCall[Request, Response]
        call = self._make(StreamUnaryCall, request_iterator, *arguments, serialize=self._serialize)
        return call


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
        arguments = (timeout, metadata, credentials, wait_for_ready, compression)
        call: StreamStreamCall[Request, Response]
        call = self._make(StreamStreamCall, request_iterator, *arguments, serialize=self._serialize)
        return call
