"""Whether a server answers, without a client library: `shop up` asks before it has the time to import one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shop_services.runtime.tls import ClientTls

_TIMEOUT = 1.0


async def http_get(address: str, path: str, tls: ClientTls | None = None) -> tuple[int, bytes]:
    """The status and the body of a GET; (0, b"") if there is no answer within a second. With `tls` by HTTPS."""
    try:
        async with _connected(address, tls) as (reader, writer):
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return int(head.split()[1]), body
    except (OSError, TimeoutError, IndexError, ValueError):  # no answer, or none that is HTTP
        return 0, b""


async def greeting(address: str, tls: ClientTls | None = None) -> bytes:
    """The line with which a server greets whoever connects; empty if there is none within a second."""
    try:
        async with _connected(address, tls) as (reader, _):
            return await reader.readline()
    except (OSError, TimeoutError, ValueError):  # no answer, or a line without an end
        return b""


@asynccontextmanager
async def _connected(
    address: str, tls: ClientTls | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    context, name = (None, None) if tls is None else (tls.context(), tls.server_name)
    async with asyncio.timeout(_TIMEOUT):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=name)
        try:
            yield reader, writer
        finally:
            writer.close()
