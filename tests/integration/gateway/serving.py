"""Real parts for tests of the gateway: a gRPC server that speaks the zoo, and a gateway on real HTTP before it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
from google.protobuf import empty_pb2, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import status_pb2
from starlette.types import ASGIApp

from shop_services.gateway.app import make_app
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
        self.sleeping.set()
        try:
            await self.wake.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return empty_pb2.Empty()

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
                handlers[rpc.name] = grpc.unary_unary_rpc_method_handler(
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
async def http(app: ASGIApp) -> AsyncIterator[tuple[HttpServer, httpx.AsyncClient]]:
    """Serve `app` on a free port of the loopback, and yield the server with a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer(app, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await server.start()
        try:
            async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
                yield server, client
        finally:
            await server.stop(None)


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
