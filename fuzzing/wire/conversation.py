"""One connection: the bytes that a client sends, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

QUIET = 0.05
"""Seconds without a byte from the server after which it has probably said all that it will."""
PATIENCE = 2.0
"""Seconds for all that it says; and seconds for it to take what is sent, which it need not."""
MOST_READ = 4 * 1024 * 1024
"""Bytes that are read before the client leaves."""

_LINGER_NOT = struct.pack("ii", 1, 0)


class Ending(StrEnum):
    """What the client does in the end."""

    CLOSE = "close"
    HALF = "half"  # says that nothing more comes, and listens until the server closes
    RESET = "reset"
    STAY = "stay"  # leaves the connection open until the round is over
    DEAF = "deaf"  # never reads, and leaves without having read


@dataclass(frozen=True, slots=True)
class Conversation:
    """`pieces` are sent one after the other; `name` is what it began as, before it was spoilt."""

    name: str
    pieces: tuple[bytes, ...]
    ending: Ending = Ending.CLOSE

    @property
    def size(self) -> int:
        """How many bytes the client sends."""
        return sum(map(len, self.pieces))

    def told(self, marks: Mapping[bytes, bytes]) -> Conversation:
        """The same with the keys of `marks` replaced by their values."""
        pieces = self.pieces
        for mark, meant in marks.items():
            pieces = tuple(piece.replace(mark, meant) for piece in pieces)
        return replace(self, pieces=pieces)

    def json(self) -> dict[str, Any]:
        """Bytes are texts with one character for each."""
        pieces = [piece.decode("latin-1") for piece in self.pieces]
        return {"name": self.name, "pieces": pieces, "ending": self.ending.value}

    @classmethod
    def of(cls, json: dict[str, Any]) -> Self:
        """The conversation that `json()` described."""
        pieces = tuple(piece.encode("latin-1") for piece in json["pieces"])
        return cls(json["name"], pieces, Ending(json["ending"]))


async def play(conversation: Conversation, port: int, until_over: asyncio.Event) -> bytes:
    """Have it with the server on a port of the loopback; returns what that said. `until_over` ends one that stays.

    The server may close at any time. Raises `OSError` if it cannot be connected to.
    """
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MOST_READ)
    heard = bytearray()
    try:
        if conversation.ending is Ending.DEAF:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's
        with contextlib.suppress(OSError, TimeoutError):
            await _speak(conversation, reader, writer, heard)
            match conversation.ending:
                case Ending.HALF:
                    writer.write_eof()
                    await _listen(reader, heard, PATIENCE)
                case Ending.STAY:
                    async with asyncio.timeout(60):
                        await until_over.wait()
                case Ending.DEAF:
                    await asyncio.sleep(QUIET)
    finally:
        if conversation.ending is Ending.RESET:
            connection: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return bytes(heard)


async def _speak(
    conversation: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray
) -> None:
    for piece in conversation.pieces:
        writer.write(piece)
        async with asyncio.timeout(PATIENCE):
            await writer.drain()
        await asyncio.sleep(0)
    if conversation.ending is not Ending.DEAF:
        await _listen(reader, heard, QUIET)


async def _listen(reader: asyncio.StreamReader, heard: bytearray, quiet: float) -> None:
    """Read until the server has closed, is quiet for so long, or has said enough."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while len(heard) < MOST_READ and (left := until - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(quiet, left)):
                said = await reader.read(65536)
        except TimeoutError:
            return
        if not said:
            return
        heard += said
