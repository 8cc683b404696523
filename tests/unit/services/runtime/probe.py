"""A gRPC service of all four kinds of call, whose behaviours a test chooses; it speaks StringValue, to anyone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from shop_services.runtime.interceptor import CallInterceptor, ServedCall
from tests.unit.services.runtime.ruled import ANYONE, add_service

Behaviour = Callable[..., Any]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_KINDS: dict[str, Callable[..., Any]] = {
    "UnaryUnary": grpc.unary_unary_rpc_method_handler,
    "UnaryStream": grpc.unary_stream_rpc_method_handler,
    "StreamUnary": grpc.stream_unary_rpc_method_handler,
    "StreamStream": grpc.stream_stream_rpc_method_handler,
}


add_service("probe.Probe", dict.fromkeys(_KINDS, ANYONE))


def text(value: str) -> StringValue:
    """A message."""
    return StringValue(value=value)


class Probe:
    """A channel to a server with the given interceptors, and the behaviour of each kind of call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def unary_unary(self, request: str, **options: Any) -> str:
        """Call it, and return the response's text."""
        response = await self.call("UnaryUnary")(text(request), **options)
        return str(response.value)

    async def unary_stream(self, request: str, **options: Any) -> list[str]:
        """Call it, and return the responses' texts."""
        return [response.value async for response in self.call("UnaryStream")(text(request), **options)]

    async def stream_unary(self, requests: Sequence[str], **options: Any) -> str:
        """Call it, and return the response's text."""
        response = await self.call("StreamUnary")(map(text, requests), **options)
        return str(response.value)

    async def stream_stream(self, requests: Sequence[str], **options: Any) -> list[str]:
        """Call it, and return the responses' texts."""
        return [response.value async for response in self.call("StreamStream")(map(text, requests), **options)]

    def call(self, kind: str, channel: grpc.aio.Channel | None = None) -> Any:
        """The multicallable of that kind."""
        name = {"UnaryUnary": "unary_unary", "UnaryStream": "unary_stream"}.get(kind)
        name = name or {"StreamUnary": "stream_unary", "StreamStream": "stream_stream"}[kind]
        make = getattr(channel or self.channel, name)
        return make(f"/probe.Probe/{kind}", StringValue.SerializeToString, StringValue.FromString)


class Ends(CallInterceptor):
    """Tells when calls have ended at the server: a caller may hear of a failure before, and so may `server.stop`.

    Keep it outside of all others, and wait while the server serves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self._ended = asyncio.Semaphore(0)

    @asynccontextmanager
    async def around(self, call: ServedCall) -> AsyncIterator[None]:
        self.begun += 1
        context: Any = call.context  # whose callback is no function in the stubs
        context.add_done_callback(lambda _: self._ended.release())
        yield

    async def wait(self, calls: int = 1) -> None:
        """Return when so many more have ended."""
        async with asyncio.timeout(30):
            for _ in range(calls):
                await self._ended.acquire()


class Hanging:
    """A servicer that never answers, and a clock that it puts forward by `step` when it is asked."""

    def __init__(self, step: float = 0.0) -> None:
        self.step = step
        self.passed = 0.0
        self.asked = asyncio.Event()

    async def serve(self, _request: object, _context: Context) -> StringValue:
        self.passed += self.step
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@asynccontextmanager
async def probing(interceptors: Sequence[grpc.aio.ServerInterceptor], **behaviours: Behaviour) -> AsyncIterator[Probe]:
    """Serve `behaviours` (UnaryUnary=…, UnaryStream=…, …) behind `interceptors` on the loopback."""
    rpcs = {kind: (kind, behaviour) for kind, behaviour in behaviours.items()}
    async with serving(interceptors, "probe.Probe", rpcs) as channel:
        yield Probe(channel)


@asynccontextmanager
async def serving(
    interceptors: Sequence[grpc.aio.ServerInterceptor], service: str, rpcs: Mapping[str, tuple[str, Behaviour]]
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve RPCs of `service`, each of some kind, behind `interceptors` on the loopback; yields a channel there."""
    handlers = {
        name: _KINDS[kind](
            behaviour,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for name, (kind, behaviour) in rpcs.items()
    }
    server = grpc.aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error that `call` ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")


async def echo(request: StringValue, _context: Context) -> StringValue:
    """Answer with the request."""
    return request


async def split(request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
    """Answer with each word of the request."""
    for word in request.value.split():
        yield text(word)


async def write_split(request: StringValue, context: Context) -> None:
    """As `split`, in grpc.aio's other style: a coroutine that writes."""
    for word in request.value.split():
        await context.write(text(word))


async def join(requests: AsyncIterator[StringValue], _context: Context) -> StringValue:
    """Answer with all requests, joined."""
    return text(" ".join([request.value async for request in requests]))


async def chat(requests: AsyncIterator[StringValue], _context: Context) -> AsyncIterator[StringValue]:
    """Answer each request with itself."""
    async for request in requests:
        yield request
