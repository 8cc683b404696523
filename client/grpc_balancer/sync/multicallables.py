"""What a blocking stub gets for each method: called, it makes a call. Typed and named as grpc's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc
from grpc import StatusCode

from grpc_balancer.sync.calls import Call, Response, ResponseStream
from grpc_balancer.sync.errors import CallError
from grpc_balancer.sync.requests import ThreadedRequests
from grpc_balancer.sync.rpc import CLOSED, Rpc
from grpc_balancer.sync.session import Method, Session
from grpc_balancer.sync.streaming import StreamingRpc

Request = TypeVar("Request")
Metadata = Iterable[tuple[str, str | bytes]]
AnyRpc = TypeVar("AnyRpc", bound=Rpc)


class Beginning:
    """A method of a service: how its calls are begun."""

    def __init__(
        self,
        session: Session,
        kind: str,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
        *,
        registered: bool,
        serialize_inside: bool,
        secure: bool,
    ) -> None:
        self.name = method
        self.session = session
        self._streaming = kind.startswith("stream")
        # A request is serialized before the caller goes on, who may change it; but interceptors want to see it.
        self._serialize = None if serialize_inside else serialize
        self._method = Method(kind, method, serialize if serialize_inside else None, deserialize, registered)
        self._secure = secure

    def begin(
        self,
        make: Callable[..., AnyRpc],
        request: Any,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> AnyRpc:
        """Hand a call to the loop. It is one of `make`, an `Rpc` or what makes one.

        Raises:
            ValueError: the channel is closed.
            RuntimeError: the process was forked from one that used channels, or this is the loop's thread.
            CallError: the request cannot be serialized, or the credentials cannot be sent.
        """
        tenancy = self.session.open()
        if credentials is not None and not self._secure:
            raise CallError(StatusCode.UNAUTHENTICATED, "Call credentials are only valid on secure channels")
        request = iter(request) if self._streaming else self._serialized(request)
        arguments = {
            "metadata": None if metadata is None else tuple(metadata),
            "credentials": credentials,
            "wait_for_ready": wait_for_ready,
            "compression": compression,
        }
        rpc = make(tenancy.thread, tenancy.live, timeout)
        try:
            if self._streaming:
                request = ThreadedRequests(request, self._serialize, rpc)
                request.begin()
            posted = tenancy.thread.post(rpc.start, tenancy.multicallable, self._method, request, arguments)
            if self.session.closed or not posted:  # since we looked
                rpc.end(CallError(StatusCode.CANCELLED, CLOSED))
        except BaseException:  # Ctrl-C, when the loop may have it already
            rpc.cancel()
            raise
        return rpc

    def _serialized(self, request: Any) -> Any:
        try:
            return request if self._serialize is None else self._serialize(request)
        except Exception as error:
            details = f"Exception serializing request! {error!r}"  # begins as grpc's own
            raise CallError(StatusCode.INTERNAL, details) from error


def _waited(beginning: Beginning, *arguments: Any) -> Rpc:
    """A call that has succeeded; an interrupt (Ctrl-C), wherever it comes, cancels it."""
    made: list[Rpc] = []

    def make(*given: Any) -> Rpc:
        made.append(Rpc(*given))
        return made[0]

    try:
        rpc = beginning.begin(make, *arguments)
        rpc.wait()
    except BaseException:
        for rpc in made:
            rpc.cancel()
        raise
    if rpc.error is not None:
        raise rpc.error.again()  # a copy, lest its traceback, which holds the request, is held by the call in turn
    return rpc


class _UnaryResponse(Generic[Request, Response]):
    """One response: waited for, with the call or without, or left to a future. The request is one or an iterator."""

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Response:
        rpc = _waited(self._beginning, request, timeout, metadata, credentials, wait_for_ready, compression)
        response: Response = rpc.response
        return response

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Response, Call[Response]]:
        rpc = _waited(self._beginning, request, timeout, metadata, credentials, wait_for_ready, compression)
        return rpc.response, Call(rpc, self._beginning.name, self._beginning.session)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Call[Response]:
        rpc = self._beginning.begin(Rpc, request, timeout, metadata, credentials, wait_for_ready, compression)
        return Call(rpc, self._beginning.name, self._beginning.session)


class UnaryUnary(_UnaryResponse[Request, Response], grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg, misc]
    """One request, one response."""


class StreamUnary(_UnaryResponse[Request, Response], grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg, misc]
    """Requests from an iterator, one response."""


class _StreamResponse(Generic[Request, Response]):
    """A stream of responses, to be iterated."""

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ResponseStream[Response]:
        rpc = self._beginning.begin(StreamingRpc, request, timeout, metadata, credentials, wait_for_ready, compression)
        return ResponseStream(rpc, self._beginning.name, self._beginning.session)


class UnaryStream(_StreamResponse[Request, Response], grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg, misc]
    """One request, a stream of responses."""


class StreamStream(_StreamResponse[Request, Response], grpc.StreamStreamMultiCallable):  # type: ignore[type-arg, misc]
    """Both ways at once."""
