"""HTTP/2 frames and header blocks as bytes, right or wrong (RFC 9113, RFC 7541); nothing here is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9

Fields = Iterable[tuple[bytes, bytes]]


class Kind(IntEnum):
    """A frame's type."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame; `length` is what it says of its payload, if not the truth."""
    said = (len(payload) if length is None else length) & 0xFFFFFF
    return (
        said.to_bytes(3, "big")
        + bytes((kind & 0xFF, flags & 0xFF))
        + (stream & 0xFFFFFFFF).to_bytes(4, "big")
        + payload
    )


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(
        Kind.SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    )


def window_update(stream: int, by: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, (by & 0xFFFFFFFF).to_bytes(4, "big"))


def reset(stream: int, code: int = 8) -> bytes:
    """A RST_STREAM frame; 8 is CANCEL."""
    return frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """A number as HPACK has it, with a prefix of so many bits; `first` has the bits before those."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    result = bytearray((first | most,))
    value -= most
    while value >= 128:
        result.append(value % 128 | 128)
        value //= 128
    result.append(value)
    return bytes(result)


def text(value: bytes) -> bytes:
    """A string as HPACK has it, without Huffman's code."""
    return integer(len(value), 7) + value


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """A field with both of its texts; `indexed`: it enters the dynamic table."""
    return (b"\x40" if indexed else b"\x00") + text(name) + text(value)


def reference(index: int) -> bytes:
    """A field that a table has at `index`."""
    return integer(index, 7, 0x80)


def block(fields: Fields) -> bytes:
    """A header block of literals."""
    return b"".join(literal(name, value) for name, value in fields)


def message(payload: bytes, compressed: int = 0, length: int | None = None) -> bytes:
    """A message as gRPC frames it; `length` is what it says, if not the truth."""
    return (
        bytes((compressed,)) + ((len(payload) if length is None else length) & 0xFFFFFFFF).to_bytes(4, "big") + payload
    )


def frames_in(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, stream and payload of each whole frame in `data`."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        if at + HEADER_BYTES + length > len(data):
            return
        stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
        yield data[at + 3], data[at + 4], stream, data[at + HEADER_BYTES : at + HEADER_BYTES + length]
        at += HEADER_BYTES + length


def told(data: bytes) -> str:
    """How a server answered, in a word: the gravest of its frames."""
    kinds = {kind for kind, _, _, _ in frames_in(data)}
    for kind, word in ((Kind.GOAWAY, "GOAWAY"), (Kind.RST_STREAM, "RST_STREAM"), (Kind.HEADERS, "HEADERS")):
        if kind in kinds:
            return word
    return "SETTINGS" if Kind.SETTINGS in kinds else "nothing"
