"""The metrics of a process over HTTP, for a Prometheus to fetch: `GET /metrics`, on a port of its own.

It runs in the event loop, whose state it tells of, and speaks the little HTTP that this takes: one request for each
connection, with bounds on the connections and the request, and a deadline, so that whoever connects can do no harm.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from shop_services.runtime.settings import SettingError, Settings

SECONDS = 5.0
"""How long a request and its answer may take: half of what Prometheus waits by default."""
MOST_CONNECTIONS = 16
"""More than these at a time are closed unanswered."""
MOST_BYTES = 16 * 1024
"""Of a request's line and headers."""

_PATH = "/metrics"

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving_metrics(
    settings: Settings, collectors: Iterable[Collector] = (), *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """While inside, serve the metrics of `collectors` and of the process where the settings say, if they do.

    With `tls` over HTTPS.

    Raises:
        SettingError: nothing can be bound to SHOP_METRICS_PORT.
    """
    if settings.metrics_port == 0:
        yield
        return
    endpoint = _Endpoint(registry_of(collectors))
    try:
        server = await asyncio.start_server(
            endpoint.answer,
            settings.host,
            settings.metrics_port,
            limit=MOST_BYTES,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else SECONDS,
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise SettingError("SHOP_METRICS_PORT", f"cannot bind port {settings.metrics_port}: {why}") from error
    try:
        yield
    finally:
        server.close()
        await endpoint.close()
        await server.wait_closed()


def registry_of(collectors: Iterable[Collector]) -> CollectorRegistry:
    """What collects the metrics of `collectors` and of the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    return registry


class _Endpoint:
    """Answers connections with what `registry` collects."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._answering: set[asyncio.Task[None]] = set()

    def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        if len(self._answering) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        answering = asyncio.create_task(self._answer(reader, writer), name="metrics request")
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def close(self) -> None:
        """Leave those that are being answered."""
        answering = tuple(self._answering)
        for one in answering:
            one.cancel()
        await asyncio.gather(*answering, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # What is wrong with the request or the connection is its own sender's loss.
            with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer_to(head.split(b"\r\n", 1)[0].decode("latin-1")))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()

    def _answer_to(self, line: str) -> bytes:
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path != _PATH:
            return _response("404 Not Found", b"there is only /metrics here\n")
        if method != "GET":
            return _response("405 Method Not Allowed", b"it can only be read\n", "Allow: GET\r\n")
        try:
            body = generate_latest(self._registry)
        except Exception:
            _log.exception("metrics_failed")
            return _response("500 Internal Server Error", b"a collector failed, see the log\n")
        return _response("200 OK", body, content_type=CONTENT_TYPE_LATEST)


def _response(status: str, body: bytes, headers: str = "", content_type: str = "text/plain; charset=utf-8") -> bytes:
    length = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status}\r\n{length}{headers}Connection: close\r\n\r\n".encode() + body
