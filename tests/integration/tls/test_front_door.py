"""The gateway's port under TLS: what clients draw out or make too large ends there as it does without."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.types import Receive, Scope, Send

from shop_services.gateway.connection import ConnectionBounds
from shop_services.gateway.server import HttpServer
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import server_tls

DEADLINE = 60.0


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"2"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(certificates: Path, *, lingering: float = 5.0) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """An application that answers at once and reads no bodies. Yields its port, and what a client of it needs."""
    settings = Settings(tls_dir=certificates, registry_url="memory://", nats_url="memory://")
    tls = server_tls(settings, "gateway", require_client_cert=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer(_answer, listener, ConnectionBounds(head=5.0, lingering=lingering), tls=tls)
        await server.start()
        try:
            yield listener.getsockname()[1], ssl.create_default_context(cafile=certificates / "ca.pem")
        finally:
            await server.stop(None)


async def test_a_handshake_that_does_not_begin_is_cut_off(certificates: Path) -> None:
    """It has the time of a request's head, and is no reason to be served worse for others."""
    async with serving(certificates) as (port, trusting), asyncio.timeout(DEADLINE):
        silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).endswith(b"ok")
        assert await silent.read() == b""
        silent_writer.close()
        writer.close()


async def test_an_answer_before_the_end_of_the_body_arrives(certificates: Path) -> None:
    """Who is still sending when the answer comes, and is to stop by it, gets to read it, and no reset connection."""
    # It goes on sending all of it, which takes a busy machine longer than it takes others to hear that they may stop.
    async with serving(certificates, lingering=DEADLINE) as (port, trusting), asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(200):
            writer.write(bytes(50_000))
            await writer.drain()
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.close()
