"""Client interceptors, run by grpc.aio's own machinery so that they behave as it documents.

Interceptors see a call once, however many attempts it takes, and before an endpoint is chosen. They are given to a
*front* channel, a real grpc.aio channel that never connects, followed by one more interceptor of each kind. That one
does not continue into the front channel but makes a balanced call, which grpc.aio accepts as the outcome.

An interceptor is not told which multicallable was called (two can share a method and differ in their serializers), so
that travels in a context variable, which the task that grpc.aio runs the interceptors in inherits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import grpc.aio

from grpc_balancer.multicallables import MultiCallable

_called: ContextVar[MultiCallable[Any, Any]] = ContextVar("grpc_balancer.called")

_NOWHERE = "unix:/nonexistent/grpc_balancer"


def _balanced(details: grpc.aio.ClientCallDetails, request: Any) -> Any:
    """The call that the interceptors have let through, as they want it."""
    multicallable = _called.get()
    method: Any = details.method  # bytes, unless an interceptor has put text there
    method = method.decode() if isinstance(method, bytes) else method
    if method != multicallable.route[1]:
        multicallable = multicallable.renamed(method)
    return multicallable(
        request,
        timeout=details.timeout,
        metadata=details.metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return _balanced(client_call_details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return _balanced(client_call_details, request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return _balanced(client_call_details, request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return _balanced(client_call_details, request_iterator)


class Intercepted:
    """A multicallable whose calls go through the interceptors of its kind."""

    def __init__(self, multicallable: MultiCallable[Any, Any], front: grpc.aio.Channel) -> None:
        kind, method, _ = multicallable.route
        self._multicallable = multicallable
        self._front = getattr(front, kind)(method)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        token = _called.set(self._multicallable)
        try:
            return self._front(*arguments, **named)
        finally:
            _called.reset(token)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._multicallable.route[1]}>"


class InterceptedUnaryUnary(Intercepted, grpc.aio.UnaryUnaryMultiCallable[Any, Any]): ...


class InterceptedUnaryStream(Intercepted, grpc.aio.UnaryStreamMultiCallable[Any, Any]): ...


class InterceptedStreamUnary(Intercepted, grpc.aio.StreamUnaryMultiCallable[Any, Any]): ...


class InterceptedStreamStream(Intercepted, grpc.aio.StreamStreamMultiCallable[Any, Any]): ...


def front_channel(interceptors: Sequence[grpc.aio.ClientInterceptor]) -> grpc.aio.Channel:
    """The channel that runs `interceptors`. Raises `ValueError` if one of them is none of the four kinds."""
    ours = [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()]
    return grpc.aio.insecure_channel(_NOWHERE, interceptors=[*interceptors, *ours])
