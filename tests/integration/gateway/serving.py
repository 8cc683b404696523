"""Real parts for tests of the gateway: a gRPC server that speaks the zoo, and a gateway on real HTTP before it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
from google.api import httpbody_pb2  # type: ignore[attr-defined]  # has no stubs
from google.protobuf import empty_pb2, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import status_pb2
from starlette.types import ASGIApp

from shop_services.gateway.app import make_app
from shop_services.gateway.connection import ConnectionBounds
from shop_services.gateway.openapi import Comments, make_document
from shop_services.gateway.probes import Probes
from shop_services.gateway.server import HttpServer
from shop_services.gateway.transcoder import Limits, Transcoder
from tests.unit.services.gateway import zoo

DEADLINE = 30.0
"""Seconds after which a test that waits has failed."""


class ZooServer:
    """`tests.zoo.v1.Zoo` on a real server. It remembers what it was sent, and lets a test wait for what it does."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[tuple[str, str | bytes]] = []
        self.timeout: float | None = None
        self.sleeping = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.wake = asyncio.Event()
        self.ended = asyncio.Event()
        self.sent = 0
        self.address = ""

    async def Echo(self, request: Any, context: Any) -> Any:
        """Return the request, with metadata of both kinds."""
        self._remember(request, context)
        await context.send_initial_metadata((("seen", "yes"), ("raw-bin", b"\x01\x02")))
        context.set_trailing_metadata((("last", "word"),))
        return request

    async def Patch(self, request: Any, context: Any) -> Any:
        """Return the request."""
        self._remember(request, context)
        return request

    async def Fail(self, request: Any, context: Any) -> Any:
        """End with the status asked for, and a word beside it."""
        status = status_pb2.Status(code=request.code, message=request.message, details=request.details)
        trailers = (("grpc-status-details-bin", status.SerializeToString()), ("last", "word"))
        code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
        await context.abort(code, request.message, trailers)

    async def Sleep(self, request: Any, context: Any) -> Any:
        """Answer when `wake` is set; note when the call is cancelled."""
        self._remember(request, context)
        await self._sleep()
        return empty_pb2.Empty()

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Stream numbers, and note how many have gone out and when the call has ended, however it did."""
        self._remember(request, context)
        context.add_done_callback(lambda _: self.ended.set())
        if request.greets:
            await context.send_initial_metadata((("seen", "yes"),))
        if request.sleeps_first:
            await self._sleep()
        for number in range(1, request.to + 1):
            yield zoo.message("Everything", int32_value=number, string_value="x" * request.size)
            self.sent = number
        if request.sleeps_last:
            await self._sleep()
        await self._end(request, context)

    async def Picture(self, request: Any, context: Any) -> Any:
        """Return some bytes that are no text."""
        context.set_trailing_metadata((("last", "word"),))
        return httpbody_pb2.HttpBody(content_type=request.content_type, data=b"\x89\x00\xff")

    async def Download(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Stream as many pieces as it is asked for, each of another byte; the first says which type they are."""
        for number in range(request.to):
            kind = "text/x-numbers" if number == 0 else "text/ignored"
            yield httpbody_pb2.HttpBody(content_type=kind, data=str(number).encode() * request.size)
        if request.sleeps_last:
            await self._sleep()
        await self._end(request, context)

    async def Upload(self, request: Any, context: Any) -> Any:
        """Return the request."""
        self._remember(request, context)
        return request

    async def Store(self, request: Any, context: Any) -> Any:
        """Return the request."""
        self._remember(request, context)
        return request

    async def _sleep(self) -> None:
        self.sleeping.set()
        try:
            await self.wake.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _end(self, request: Any, context: Any) -> None:
        if request.code:
            code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
            await context.abort(code, "as asked", (("last", "word"),))

    def _remember(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata = [(key, value) for key, value in context.invocation_metadata()]
        self.timeout = context.time_remaining()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ZooServer]:
        """Serve on a free port of the loopback."""
        server = grpc.aio.server()
        handlers = {}
        for rpc in zoo.service().methods:
            if (behaviour := getattr(self, rpc.name, None)) is not None:
                streams = rpc.server_streaming
                made = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
                handlers[rpc.name] = made(
                    behaviour,
                    request_deserializer=message_factory.GetMessageClass(rpc.input_type).FromString,
                    response_serializer=message_factory.GetMessageClass(rpc.output_type).SerializeToString,
                )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(zoo.service().full_name, handlers),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)


@asynccontextmanager
async def http(
    app: ASGIApp, stopping: Callable[[], None] = lambda: None, bounds: ConnectionBounds | None = None
) -> AsyncIterator[tuple[HttpServer, httpx.AsyncClient]]:
    """Serve `app` on a free port of the loopback, and yield the server with a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer(app, listener, bounds, stopping=stopping)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await server.start()
        try:
            async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
                yield server, client
        finally:
            await server.stop(None)


@asynccontextmanager
async def zoo_transcoder(address: str, limits: Limits | None = None) -> AsyncIterator[Transcoder]:
    """A transcoder for the zoo at `address`."""
    services: list[ServiceDescriptor] = [zoo.service()]
    async with grpc.aio.insecure_channel(address) as channel:
        yield Transcoder(services, lambda service: channel, limits)


@asynccontextmanager
async def zoo_app(
    address: str, limits: Limits | None = None, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app
) -> AsyncIterator[ASGIApp]:
    """The application of a gateway for the zoo at `address`. `wrap` goes around the transcoder."""
    services: list[ServiceDescriptor] = [zoo.service()]
    async with grpc.aio.insecure_channel(address) as channel:
        transcoder = Transcoder(services, lambda service: channel, limits)
        document = make_document(services, Comments(zoo.files()), title="Zoo", version="1")
        yield make_app(wrap(transcoder), Probes({"zoo": channel}), document)


@asynccontextmanager
async def zoo_gateway(
    address: str, limits: Limits | None = None, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that application, served over HTTP."""
    async with zoo_app(address, limits, wrap) as app, http(app) as (_, client):
        yield client
