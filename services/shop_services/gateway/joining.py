"""The head of an answer and its body in one segment: uvicorn writes them one after the other.

Each write is a system call, and over the loopback wakes the client as well, who can do nothing with a head alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_CHUNKED = b"\r\ntransfer-encoding: chunked"


class Joining:
    """The transport of one answer. Its first write goes out with the second, or at the loop's next turn without it.

    `end` is called instead of closing the transport. To a HEAD (`bodiless`) nothing follows, so nothing is held: the
    next answer may be written at once. HTTP/1.0 knows no chunks (`unchunked`): uvicorn writes them nonetheless, each by
    one call, and they are taken off here; such a body ends with its connection (RFC 9112, section 6.3).
    """

    __slots__ = ("_begun", "_chunked", "_end", "_held", "_loop", "_transport", "_unchunked")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        end: Callable[[], None],
        *,
        bodiless: bool = False,
        unchunked: bool = False,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._end = end
        self._begun = bodiless
        self._held = b""
        self._unchunked = unchunked
        self._chunked: bool | None = None  # known from the head on

    def write(self, data: bytes) -> None:
        """As `asyncio.WriteTransport` has it."""
        if self._unchunked:
            data = self._without_chunks(data)
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif self._begun:
            self._transport.write(data)
        else:
            self._begun = True
            self._held = data
            self._loop.call_soon(self._let_go)

    def close(self) -> None:
        """As `asyncio.BaseTransport` has it."""
        self._let_go()
        self._end()

    def is_closing(self) -> bool:
        """As `asyncio.BaseTransport` has it."""
        return self._transport.is_closing()

    def _without_chunks(self, data: bytes) -> bytes:
        if self._chunked is None:
            head = data.replace(_CHUNKED, b"", 1)
            self._chunked = len(head) != len(data)
            return head
        if not self._chunked:
            return data
        size, _, rest = data.partition(b"\r\n")
        return rest[: int(size, 16)]

    def _let_go(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
