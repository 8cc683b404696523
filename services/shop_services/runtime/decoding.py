"""Requests are made of bytes here, and not by grpc.aio before any interceptor has a say.

That answers bytes which are no message with UNKNOWN and the exception's text, and logs a traceback of each as an error:
whoever can connect could fill the log. They are the caller's fault, so the answer is INVALID_ARGUMENT, and one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.interceptor import OF_GRPC, Context, Handler, shape_of, write_all

_NO_MESSAGE = "the request is no message of the RPC's type"


class Decoding(grpc.aio.ServerInterceptor):
    """For all RPCs, also for health and reflection. What is outside of it sees the bytes of a request, no message.

    Of more than `max_request` bytes none is made.
    """

    def __init__(self, max_request: int) -> None:
        self._max_request = max_request
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}  # as many as there are methods

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (
                handler,
                _decoding(
                    handler, handler.request_deserializer, self._max_request, bounded=not method.startswith(OF_GRPC)
                ),
            )
        return known[1]


def _decoding(handler: Handler, decode: Callable[[bytes], Any], most: int, *, bounded: bool) -> Handler:
    """`bounded`: the `ErrorBoundary` is around it, which gRPC's own services do without."""
    make, behaviour = shape_of(handler)

    async def decoded(data: bytes, context: Context) -> Any:
        flaw = f"the request is larger than {most:,} bytes"
        if len(data) <= most:
            try:
                return decode(data)
            except DecodeError:
                flaw = _NO_MESSAGE
        if bounded:
            raise InvalidArgument([("", flaw)])
        try:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, flaw)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None  # nobody is there to be told

    async def each(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async for data in requests:
            yield await decoded(data, context)

    async def one_answer(request: Any, context: Context) -> Any:
        whole = each(request, context) if handler.request_streaming else await decoded(request, context)
        return await behaviour(whole, context)

    async def answers(request: Any, context: Context) -> None:
        whole = each(request, context) if handler.request_streaming else await decoded(request, context)
        await write_all(behaviour(whole, context), context)

    wrapped: Handler = make(
        answers if handler.response_streaming else one_answer, response_serializer=handler.response_serializer
    )
    return wrapped
