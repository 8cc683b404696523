"""One way to be around every call, of whichever of gRPC's four kinds, written once for all server interceptors.

grpc.aio hands an interceptor a handler, whose behaviour has one of four shapes, and is a coroutine or an asynchronous
generator. A `CallInterceptor` sees none of that: `around` is entered when a call begins, and left when it ends, however
that is; `check` sees each message that the caller sends before the servicer does.

Handlers that stream responses are wrapped as coroutines that write, never as generators. A generator whose consumer is
cancelled is left suspended until it is collected, in another task, where neither its clean-up nor its logging belong.
"""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs alone
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

OF_GRPC = "/grpc."
"""Health and reflection: gRPC's own services, which need none of this."""


@dataclass(frozen=True, slots=True)
class ServedCall:
    """A call as an interceptor sees it. `method` is its path, `/package.Service/Method`."""

    method: str
    context: Context


class CallInterceptor(grpc.aio.ServerInterceptor, ABC):
    """Base of the interceptors here. A subclass overrides `around`, `check`, or both."""

    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}  # as many as there are methods

    def around(self, call: ServedCall) -> AbstractAsyncContextManager[None]:
        """Entered before the servicer's method and left after it, with its exception if it raised one."""
        return nullcontext()

    def check(self, request: Message) -> None:
        """Raise to refuse `request`. It is called inside of `around`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OF_GRPC):
            return handler
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        make, behaviour = shape_of(handler)

        async def unary(request: Any, context: Context) -> Any:
            async with self.around(ServedCall(method, context)):
                return await behaviour(self._checked(handler, request), context)

        async def stream(request: Any, context: Context) -> None:
            async with self.around(ServedCall(method, context)):
                await write_all(behaviour(self._checked(handler, request), context), context)

        wrapped: Handler = make(
            stream if handler.response_streaming else unary,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _checked(self, handler: Handler, request: Any) -> Any:
        if handler.request_streaming:
            return self._each(request)
        self.check(request)
        return request

    async def _each(self, requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
        async for request in requests:
            self.check(request)
            yield request


async def write_all(responses: Any, context: Context) -> None:
    """Write what a behaviour that streams responses gives, of whichever kind it is; it may write them itself."""
    if inspect.isawaitable(responses):
        await responses
        return
    async with aclosing(responses):
        async for response in responses:
            await context.write(response)


def shape_of(handler: Handler) -> tuple[Callable[..., Handler], Callable[..., Any]]:
    """What makes a handler of the same kind, and the behaviour that `handler` has."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler, _present(handler.unary_unary)
        case False, True:
            return grpc.unary_stream_rpc_method_handler, _present(handler.unary_stream)
        case True, False:
            return grpc.stream_unary_rpc_method_handler, _present(handler.stream_unary)
        case _:
            return grpc.stream_stream_rpc_method_handler, _present(handler.stream_stream)


def _present(behaviour: Callable[..., Any] | None) -> Callable[..., Any]:
    if behaviour is None:
        raise TypeError("the handler has no behaviour of its own kind")
    return behaviour
