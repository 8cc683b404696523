"""The messages of grpc.health.v1 in bytes. They have one field each, so their package is no dependency of ours.

message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { ServingStatus status = 1; }
"""

from __future__ import annotations

SERVING = 1
STATUSES = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
"""`HealthCheckResponse.ServingStatus`."""


def encode_request(service: str) -> bytes:
    """A `HealthCheckRequest`. The empty text stands for the server as a whole."""
    text = service.encode()
    if not text:
        return b""
    length, rest = bytearray([1 << 3 | 2]), len(text)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + text


def decode_response(message: bytes) -> int | None:
    """The status in a `HealthCheckResponse`, whatever else is in it. None: it is no such message."""
    status, at = 0, 0
    try:
        while at < len(message):
            key, at = _varint(message, at)
            match key & 0x7:  # varint, 64 bits, length and bytes, 32 bits
                case 0:
                    value, at = _varint(message, at)
                    status = value if key >> 3 == 1 else status
                case 1:
                    at += 8
                case 2:
                    size, at = _varint(message, at)
                    at += size
                case 5:
                    at += 4
                case _:
                    return None
    except IndexError:
        return None
    return status if at == len(message) else None


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    value = 0
    for place in range(10):
        byte = message[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte <= 0x7F:
            return value, at + place + 1
    raise IndexError("a varint of more than ten bytes")
