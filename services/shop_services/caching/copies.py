"""What a cache holds of a key: its value or that there is none, as of when, and for how long; and that as bytes.

The bytes are framed, so that whatever a shared cache returns for a key is either what was stored under this key by
this version of the format, or is recognised as something else.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from zlib import crc32

V = TypeVar("V")

ANY = sys.maxsize
"""An `as_of` later than all: that of a copy to which nothing has happened since."""

_SUM = struct.Struct(">I")
_HEAD = struct.Struct(">Bqq")  # kind, as_of, milliseconds since 1970 at which it expires
_VALUE, _ABSENT = 0xA1, 0xA2  # a change of the format takes other numbers


@dataclass(frozen=True, slots=True)
class Copy(Generic[V]):
    """A copy of what the source has for a key. A `value` of None: the source has none.

    `as_of` says how new it is, in the source's own count of changes. `expires` and `refresh_at` are set by who keeps
    the copy, in seconds of its clock: until when it may be used, and when to look for a newer one before that.
    """

    value: V | None
    as_of: int
    expires: float = math.inf
    refresh_at: float = math.inf


class Codec(Protocol[V]):
    """How values become bytes. `loads` raises any exception for bytes that it cannot read."""

    def dumps(self, value: V) -> bytes: ...

    def loads(self, data: bytes) -> V: ...


class Unreadable(ValueError):
    """What a shared cache returned for a key is no copy of it, or not in this format."""


def encode(key: str, copy: Copy[V], expires: float, codec: Codec[V]) -> bytes:
    """The copy as bytes. `expires` is in seconds since 1970, for others have other clocks."""
    kind, body = (_ABSENT, b"") if copy.value is None else (_VALUE, codec.dumps(copy.value))
    framed = _HEAD.pack(kind, copy.as_of, int(expires * 1000)) + body
    return _SUM.pack(_checksum(key, framed)) + framed


def decode(key: str, data: object, codec: Codec[V]) -> Copy[V]:
    """The copy in these bytes; its `expires` is in seconds since 1970.

    Raises:
        Unreadable: they are not those of a copy of this key.
    """
    if not isinstance(data, bytes) or len(data) < _SUM.size + _HEAD.size:
        raise Unreadable(f"what is stored for {key!r} is too short, or is not bytes")
    framed = data[_SUM.size :]
    if _SUM.unpack_from(data) != (_checksum(key, framed),):
        raise Unreadable(f"what is stored for {key!r} is damaged, or is another key's")
    kind, as_of, expires = _HEAD.unpack_from(framed)
    if kind == _ABSENT:
        return Copy(None, as_of, expires / 1000)
    if kind != _VALUE:
        raise Unreadable(f"what is stored for {key!r} is in another format")
    try:
        value = codec.loads(framed[_HEAD.size :])
    except Exception as error:
        raise Unreadable(f"what is stored for {key!r} cannot be read: {error!r}") from error
    return Copy(value, as_of, expires / 1000)


def _checksum(key: str, framed: bytes) -> int:
    return crc32(framed, crc32(key.encode()))
