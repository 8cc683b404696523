"""Whether a server answers, without a client library: `shop up` asks before it has the time to import one."""

from __future__ import annotations

import asyncio

_TIMEOUT = 1.0


async def http_get(address: str, path: str) -> tuple[int, bytes]:
    """The status and the body of a GET; (0, b"") if there is no answer within a second."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                return int(head.split()[1]), body
            finally:
                writer.close()
    except (OSError, TimeoutError, IndexError, ValueError):  # no answer, or none that is HTTP
        return 0, b""


async def greeting(address: str) -> bytes:
    """The line with which a server greets whoever connects; empty if there is none within a second."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):  # no answer, or a line without an end
        return b""
