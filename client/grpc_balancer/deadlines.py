"""Deadlines that are inherited: a call made while serving another may not outlast it.

Nobody waits for what is done after the caller's deadline. Where gRPC has a context it hands deadlines on itself; here
a server interceptor notes that of the call being served, and our channels give no call more time than that leaves:

    server = grpc.aio.server(interceptors=[DeadlineInterceptor()])
    server = grpc.server(ThreadPoolExecutor(), interceptors=[BlockingDeadlineInterceptor()])

A task that is started while serving inherits it too. One that is meant to outlive the call is started so:

    with deadlines.ignored():
        task = asyncio.create_task(send_mail())
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar, copy_context
from time import monotonic
from typing import Any

import grpc
import grpc.aio

serving_deadline: ContextVar[float | None] = ContextVar("grpc_balancer_serving_deadline", default=None)
"""When the call being served must be answered, on the clock of `time.monotonic`; None: whenever, or none is served."""

_FOR_EVER = 1e9
"""Seconds from which on a deadline is none: gRPC's blocking server tells of a missing one as of a very late one."""


def remaining() -> float | None:
    """Seconds left for the call being served, at least 0; None if it has no deadline, or none is being served."""
    deadline = serving_deadline.get()
    return None if deadline is None else max(0.0, deadline - monotonic())


def within(timeout: float | None) -> float | None:
    """The shorter of a call's own timeout and `remaining`."""
    left = remaining()
    return timeout if left is None or (timeout is not None and timeout < left) else left


@contextmanager
def ignored() -> Iterator[None]:
    """Within, and in tasks started within, calls have the time that they are given, whatever is being served."""
    token = serving_deadline.set(None)
    try:
        yield
    finally:
        serving_deadline.reset(token)


class DeadlineInterceptor(grpc.aio.ServerInterceptor):
    """For a `grpc.aio.server`: notes the deadline of each call for the time that it is served."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        return None if handler is None else _wrapped(handler, _asynchronous)


class BlockingDeadlineInterceptor(grpc.ServerInterceptor):
    """The same for a `grpc.server`."""

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = continuation(handler_call_details)
        return None if handler is None else _wrapped(handler, _blocking)


Behaviour = Callable[[Any, Any], Any]
"""What a servicer has for a method: called with the request, or requests, and the context."""

Wrap = Callable[[Behaviour, bool], Behaviour]

_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def _wrapped(handler: Any, wrap: Wrap) -> Any:
    """The handler, with its behaviour wrapped. `wrap` is told whether it streams responses."""
    name, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    behaviour = wrap(getattr(handler, name), handler.response_streaming)
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def _deadline(context: Any) -> float | None:
    left: float | None = context.time_remaining()
    return None if left is None or left > _FOR_EVER else monotonic() + left


def _asynchronous(behaviour: Behaviour, streams: bool) -> Behaviour:
    """grpc.aio asks what kind of function it has, so the wrapper is of the same kind, but for asynchronous generators.

    Those are written from a coroutine: a generator around a generator would be left suspended when its call is
    cancelled, until it is collected.
    """
    if inspect.isasyncgenfunction(behaviour):

        async def write(request: Any, context: Any) -> None:
            serving_deadline.set(_deadline(context))
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)

        return write

    if inspect.iscoroutinefunction(behaviour):

        async def serve(request: Any, context: Any) -> Any:
            serving_deadline.set(_deadline(context))  # a call is served in a task of its own: nothing to put back
            return await behaviour(request, context)

        return serve
    return _blocking(behaviour, streams)


def _blocking(behaviour: Behaviour, streams: bool) -> Behaviour:
    """In a thread that serves other calls before and after, so in a context that is the call's own."""

    def begin(request: Any, context: Any) -> Any:
        serving_deadline.set(_deadline(context))
        return behaviour(request, context)

    def serve(request: Any, context: Any) -> Any:
        return copy_context().run(begin, request, context)

    def stream(request: Any, context: Any) -> Iterator[Any]:
        own = copy_context()
        responses = iter(own.run(begin, request, context) or ())
        try:
            while (response := own.run(next, responses, _LAST)) is not _LAST:
                yield response
        finally:
            close = getattr(responses, "close", None)
            if close is not None:
                own.run(close)

    return stream if streams else serve


_LAST: Any = object()
