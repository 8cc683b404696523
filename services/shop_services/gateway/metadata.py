"""HTTP headers to gRPC metadata and back, as grpc-gateway does it.

In: `Grpc-Metadata-X` becomes `x`, `Authorization` and the request id go along, everything else stays at the gateway.
Out: the initial metadata `x` becomes `Grpc-Metadata-X`, the trailing one `Grpc-Trailer-X`. Keys that end in `-bin` are
base64 in headers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from google.rpc import code_pb2

from shop_services.gateway.errors import Headers, Refusal
from shop_services.runtime.context import REQUEST_ID

Metadata = list[tuple[str, str | bytes]]

_PREFIX = b"grpc-metadata-"
_KEY = re.compile(r"[0-9a-z_.-]{1,128}")
_VALUE = re.compile(r"[ -~]*")
_RESERVED = frozenset({"authorization", REQUEST_ID, "connection", "content-type", "host", "te", "user-agent"})
_MOST = 6 * 1024
"""Bytes of a request's metadata, with 32 more for each (RFC 7541, section 4.1). A gRPC server takes 8 KiB, some of them
its own; beyond it refuses some requests, and beyond 16 KiB all, as if they came too often."""
_EACH = 32
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(slots=True)
class Head:
    """What the gateway reads of a request's headers, in one pass over them."""

    content_type: str = ""
    content_encoding: str = ""
    content_length: int | None = None
    has_body: bool = False
    timeout: float | None = None
    metadata: Metadata = field(default_factory=list)


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """The head of a request from its headers, whose names are lower case. Raises `Refusal`: one is malformed."""
    head = Head()
    room = _MOST
    for name, value in headers:
        if name == b"content-type":
            head.content_type = value.decode("latin-1")
        elif name == b"content-length":
            head.content_length = int(value)  # the HTTP server has checked that it is a number
            head.has_body = head.content_length > 0
        elif name == b"transfer-encoding":
            head.has_body = True
        elif name == b"content-encoding":
            head.content_encoding = value.decode("latin-1").strip().lower()
        elif name == b"authorization":
            head.metadata.append(("authorization", _text(name, value)))
            room -= len(name) + len(value) + _EACH
        elif name == b"grpc-timeout":
            head.timeout = _timeout(value.decode("latin-1"))
        elif name.startswith(_PREFIX):
            head.metadata.append(_pair(name, value))
            room -= len(name) + len(value) + _EACH
    if room < 0:
        what = f"authorization and the headers grpc-metadata-* have more than {_MOST} bytes together"
        raise Refusal.of(code_pb2.RESOURCE_EXHAUSTED, what, http_status=431)
    return head


def answer_headers(initial: Iterable[tuple[str, str | bytes]], trailing: Iterable[tuple[str, str | bytes]]) -> Headers:
    """The headers for what a service sent beside its response. gRPC's own keys, and the request id, are left out."""
    return tuple(
        (prefix + key.encode("ascii"), _header_value(value))
        for prefix, pairs in ((_PREFIX, initial), (b"grpc-trailer-", trailing))
        for key, value in pairs
        if not _reserved(key)
    )


def _reserved(key: str) -> bool:
    """Whether a key of metadata belongs to gRPC, to HTTP or to the gateway itself."""
    return key.startswith("grpc-") or key in _RESERVED


def _header_value(value: str | bytes) -> bytes:
    # Metadata are printable ASCII, but HTTP allows no space at either end of a header.
    return base64.b64encode(value) if isinstance(value, bytes) else value.strip().encode("ascii", "replace")


def _pair(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    key = name[len(_PREFIX) :].decode("latin-1")
    if not _KEY.fullmatch(key) or _reserved(key):
        raise _malformed(name, "names a key that cannot be set")
    if not key.endswith("-bin"):
        return key, _text(name, value)
    try:
        return key, base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise _malformed(name, "must be base64, since its name ends in -bin") from None


def _text(name: bytes, value: bytes) -> str:
    text = value.decode("latin-1")
    if not _VALUE.fullmatch(text):
        raise _malformed(name, "must be printable ASCII")
    return text


def _timeout(text: str) -> float:
    """Seconds. gRPC over HTTP/2: at most 8 digits and a unit."""
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise _malformed(b"grpc-timeout", "must be up to 8 digits and a unit of H, M, S, m, u or n, such as 500m")
    return int(match[1]) * _SECONDS[match[2]]


def _malformed(name: bytes, why: str) -> Refusal:
    return Refusal.of(code_pb2.INVALID_ARGUMENT, f"header {name.decode('latin-1')}: {why}")
