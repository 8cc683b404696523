"""What is done to a server of gRPC: a function for each kind of conversation, right in all but one thing."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from random import Random

from fuzzing.frames import http2
from fuzzing.frames.http2 import ACK, END_HEADERS, END_STREAM, PADDED, PRIORITISED, Kind
from fuzzing.frames.requests import RPCS, Calls
from fuzzing.octets import rubbish, spoilt

Pieces = list[bytes]
Attack = Callable[[Random, Calls], Pieces]

_HELLO = http2.PREFACE + http2.settings()
_TOKENS = (b"grpc-", b"-bin", b"\x00", b"\x80", b"\xff" * 4, b"\x0a\x00", b"\x12\xff\xff\xff\xff\x0f", b"\x0b", b"\x07")


def calls(rng: Random, calls: Calls) -> Pieces:
    """Calls in order, on one connection; what they ask for need not exist."""
    return [_HELLO, *(calls.whole(rng, 1 + 2 * at) for at in range(rng.choice((1, 1, 3, 20))))]


def protobuf(rng: Random, calls: Calls) -> Pieces:
    """Messages that are none, or deeper, longer and stranger than any."""
    pieces = [_HELLO]
    for at in range(rng.randrange(1, 6)):
        rpc = rng.choice(RPCS)
        payload = calls.payload(rng, rpc)
        match rng.randrange(7):
            case 0:
                payload = rubbish(rng, 400)
            case 1:
                payload = _nested(rng, rng.choice((50, 101, 1000, 4000)))
            case 2:
                payload += b"\x0b" * rng.choice((1, 99, 101, 50_000))  # groups that begin
            case 3:
                payload += http2.integer(rng.randrange(1, 2**29) << 3 | rng.randrange(8), 7) + b"\xff" * 10
            case 4:
                payload += b"\xfa\xff\xff\xff\x0f" + b"\x80" * 9 + b"\x01"
            case 5:
                payload += b"\x0a\x02\xc3\x28" + b"\x12\x01\xff"  # texts that are no UTF-8
            case _:
                payload = spoilt(rng, payload, _TOKENS, most=20_000)
        pieces.append(_call(rng, calls, 1 + 2 * at, http2.message(payload), rpc))
    return pieces


def lengths(rng: Random, calls: Calls) -> Pieces:
    """Messages that are not as long as they say, in frames cut anywhere."""
    payload = calls.payload(rng, rpc := rng.choice(RPCS))
    said = rng.choice((0, 1, len(payload) + 1, len(payload) - 1, 4 * 2**20, 4 * 2**20 + 1, 2**31 - 1, 2**31, 2**32 - 1))
    data = http2.message(payload, length=said) + rng.choice(
        (b"", b"\0", b"\0\0\0\0", http2.message(b""), http2.message(payload))
    )
    head = http2.frame(Kind.HEADERS, END_HEADERS, 1, http2.block(calls.fields(rng, rpc)))
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(8)))
    parts = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    frames = [http2.frame(Kind.DATA, 0, 1, part) for part in parts]
    return [_HELLO + head, *frames, http2.frame(Kind.DATA, END_STREAM, 1) if rng.random() < 0.7 else b""]


def compression(rng: Random, calls: Calls) -> Pieces:
    """Messages said to be compressed: bombs, rubbish, or without a word on how."""
    bomb = b"\0" * rng.choice((100, 10**5, 3 * 10**7))
    encoding = rng.choice((b"gzip", b"deflate", b"identity", b"snappy", b"gzip, gzip", b"", b"\xff"))
    payload = rng.choice(
        (
            gzip.compress(bomb, 9, mtime=0),
            zlib.compress(bomb, 9),
            rubbish(rng, 50),
            b"",
            gzip.compress(b"", mtime=0)[:-3],
            gzip.compress(b"", mtime=0) * 50,
        )
    )
    fields = calls.fields(rng, rpc := rng.choice(RPCS))
    if rng.random() < 0.8:
        fields.append(
            (
                rng.choice(
                    (b"grpc-encoding", b"grpc-internal-encoding-request", b"grpc-accept-encoding", b"content-encoding")
                ),
                encoding,
            )
        )
    if rpc.input_type.fields and rng.random() < 0.3:  # as an unknown field, so that all of it is taken
        whole = b"\xfa\x07" + http2.integer(len(bomb), 7) + bomb
        payload = gzip.compress(whole, 9, mtime=0)
    head = http2.frame(Kind.HEADERS, END_HEADERS, 1, http2.block(fields))
    data = http2.message(payload, compressed=rng.choice((1, 1, 1, 2, 0x80, 0xFF)))
    return [_HELLO + head, *_data(1, data)]


def fields(rng: Random, calls: Calls) -> Pieces:
    """Requests whose fields are missing, twice there, too many, or of bytes that no field may have."""
    fields = calls.fields(rng)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(fields))
        name, value = fields[at]
        match rng.randrange(9):
            case 0:
                del fields[at]
            case 1:
                fields.insert(rng.randrange(len(fields) + 1), fields[at])
            case 2:
                fields[at] = name, spoilt(rng, value, _TOKENS, most=3000)
            case 3:
                fields[at] = spoilt(rng, name, _TOKENS, most=300), value
            case 4:
                fields.append(
                    (
                        rng.choice((b"a-bin", b"grpc-trace-bin", b"grpc-tags-bin", b"grpc-status-details-bin")),
                        rubbish(rng, 40),
                    )
                )
            case 5:
                fields.append(
                    (
                        b"grpc-timeout",
                        rng.choice((b"", b"0n", b"-1S", b"99999999H", b"999999999S", b"1.5S", b"1x", b"S")),
                    )
                )
            case 6:
                fields.append(
                    (
                        rng.choice(
                            (
                                b":status",
                                b":protocol",
                                b"connection",
                                b"transfer-encoding",
                                b"host",
                                b"Upper",
                                b"",
                                b" ",
                            )
                        ),
                        b"x",
                    )
                )
            case 7:
                fields.append(
                    (
                        rng.choice(
                            (b"x-request-id", b"authorization", b"x", b"grpc-previous-rpc-attempts", b"grpc-message")
                        ),
                        rng.choice(
                            (
                                b"",
                                b"\n",
                                b"Bearer",
                                b"Bearer a.b.c",
                                b"\xc3\x28",
                                b"y" * rng.choice((100, 9000, 70_000)),
                            )
                        ),
                    )
                )
            case _:
                fields += [(f"x-{number}".encode(), b"v" * 20) for number in range(rng.choice((10, 200, 2000)))]
        if not fields:
            break
    stream = http2.frame(Kind.DATA, END_STREAM, 1, http2.message(b""))
    return [_HELLO, *_headers(1, http2.block(fields)), stream, calls.whole(rng, 3)]


def tables(rng: Random, calls: Calls) -> Pieces:
    """Header blocks that break HPACK, or make much of a few bytes by its table."""
    good = http2.block(calls.fields(rng))
    match rng.randrange(9):
        case 0:
            bad = http2.reference(rng.choice((0, 62, 100, 2**28, 2**62)))
        case 1:
            bad = b"\xff" + b"\xff" * rng.choice((4, 10, 100, 5000))  # a number without an end
        case 2:
            bad = b"\x00" + rng.choice(
                (b"\x7f\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x0f", b"\x85\xff\xff\xff\xff\xff", b"\x81\x00")
            )
        case 3:
            bad = http2.integer(rng.choice((0, 4096, 4097, 2**30)), 5, 0x20) * rng.choice((1, 3, 3000))
        case 4:
            big = b"v" * 4000
            bad = http2.literal(b"x", big, indexed=True) + http2.reference(62) * rng.choice((3, 100, 16_000))
        case 5:
            bad = b"".join(http2.literal(b"k%d" % number, b"", indexed=True) for number in range(2000))
        case 6:
            bad = good[: rng.randrange(len(good))]
        case 7:
            bad = spoilt(rng, good, (b"\x80", b"\x40\x00\x00", b"\xbe", b"\x3f\xe1\x1f"), most=5000)
        case _:
            bad = rubbish(rng, 300)
    block = good + bad if rng.random() < 0.5 else bad + good
    data = http2.frame(Kind.DATA, END_STREAM, 1, http2.message(b""))
    return [_HELLO, *_headers(1, block), data, calls.whole(rng, 3)]


def rapid_reset(rng: Random, calls: Calls) -> Pieces:
    """Calls that are given up as soon as they have begun, hundreds of them (CVE-2023-44487)."""
    pieces = [_HELLO]
    rpc = rng.choice(RPCS)
    whole = rng.random() < 0.6
    for at in range(rng.choice((10, 100, 400))):
        stream = 1 + 2 * at
        begun = (
            calls.whole(rng, stream, rpc)
            if whole
            else http2.frame(Kind.HEADERS, END_HEADERS, stream, http2.block(calls.fields(rng, rpc)))
        )
        pieces.append(begun + http2.reset(stream, rng.choice((0, 1, 5, 7, 8, 2**32 - 1))))
    return _joined(rng, pieces)


def continuation(rng: Random, calls: Calls) -> Pieces:
    """Header blocks in many frames, without an end or interrupted (CVE-2024-27316)."""
    good = http2.block(calls.fields(rng))
    pieces = [_HELLO, http2.frame(Kind.HEADERS, 0, 1, good)]
    part = rng.choice(
        (
            b"",
            http2.literal(b"x", b"y" * 100),
            http2.literal(b"x", b"y" * 15_000),
            http2.literal(b"x", b"", indexed=True),
        )
    )
    pieces += [http2.frame(Kind.CONTINUATION, 0, 1, part)] * rng.choice((1, 20, 500, 3000 if len(part) < 200 else 300))
    match rng.randrange(4):
        case 0:
            pieces.append(http2.frame(Kind.CONTINUATION, END_HEADERS, 1))
        case 1:
            pieces.append(http2.frame(Kind.CONTINUATION, END_HEADERS, 3))
        case 2:
            pieces.append(calls.whole(rng, 3))
        case _:
            pieces.append(http2.frame(Kind.PING, 0, 0, b"12345678"))
    return _joined(rng, pieces)


def floods(rng: Random, _calls: Calls) -> Pieces:
    """Frames that cost the sender nothing, and ask for an answer each or change a state."""
    one = rng.choice(
        (
            http2.frame(Kind.PING, 0, 0, b"12345678"),
            http2.frame(Kind.PING, ACK, 0, b"12345678"),
            http2.settings((4, 65_535)),
            http2.settings((3, 0), (4, 2**31 - 1), (5, 2**24 - 1), (6, 0)),
            http2.frame(Kind.SETTINGS, ACK, 0),
            http2.window_update(0, 1),
            http2.frame(Kind.PRIORITY, 0, 1, b"\x80\0\0\0\xff"),
            http2.frame(Kind.DATA, 0, 1, b""),
            http2.frame(0xBE, 0xFF, 0, b"unknown"),
            http2.reset(1),
        )
    )
    return _joined(rng, [_HELLO, *[one] * rng.choice((10, 1000, 5000))])


def frames(rng: Random, calls: Calls) -> Pieces:
    """Frames that break a rule of HTTP/2, between calls that do not."""
    pieces = [_HELLO, calls.whole(rng, 1)]
    for _ in range(rng.randrange(1, 6)):
        kind, flags, stream = (
            rng.randrange(12),
            rng.choice((0, 1, 4, 5, PADDED, PADDED | 1, PRIORITISED | 4, 0xFF)),
            rng.choice((0, 1, 2, 3, 5, 2**31 - 1, 2**31 + 1)),
        )
        payload = rng.choice(
            (
                b"",
                b"\0",
                b"\xff" * 4,
                b"\xff" * 5,
                b"\0\0\0\0",
                b"\0" * 8,
                rubbish(rng, 100),
                http2.block(calls.fields(rng)),
            )
        )
        length = rng.choice((None, None, None, 0, 1, 2**14, 2**14 + 1, 2**24 - 1))
        pieces.append(http2.frame(kind, flags, stream, payload, length))
    return [*pieces, calls.whole(rng, 7)]


def windows(rng: Random, calls: Calls) -> Pieces:
    """Windows of nothing, of one byte, or beyond what they may have: answers that cannot be sent."""
    hello = http2.PREFACE + http2.settings(
        (4, rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1))),
        (2, rng.choice((0, 1, 2))),
        (6, rng.choice((0, 10, 2**32 - 1))),
    )
    pieces = [hello, *(calls.whole(rng, 1 + 2 * at) for at in range(rng.choice((1, 5, 50))))]
    steps = (0, 1, 2**31 - 1, 2**32 - 1)
    updates = range(rng.choice((0, 3, 50)))
    pieces += [http2.window_update(rng.choice((0, 1, 3, 99)), rng.choice(steps)) for _ in updates]
    return [*pieces, http2.settings((4, rng.choice((0, 10, 65_535))), (1, rng.choice((0, 4096, 2**32 - 1))))]


def unfinished(rng: Random, calls: Calls) -> Pieces:
    """Many calls that begin, and neither go on nor end."""
    pieces = [_HELLO]
    for at in range(rng.choice((1, 20, 150, 400))):
        stream, rpc = 1 + 2 * at, rng.choice(RPCS)
        pieces.append(http2.frame(Kind.HEADERS, END_HEADERS, stream, http2.block(calls.fields(rng, rpc))))
        if rng.random() < 0.5:
            pieces.append(
                http2.frame(
                    Kind.DATA, 0, stream, http2.message(calls.payload(rng, rpc))[: rng.choice((1, 4, 5, 9, 10_000))]
                )
            )
    return _joined(rng, pieces)


def messages(rng: Random, calls: Calls) -> Pieces:
    """More messages than an RPC takes, or a stream of them that goes on and on."""
    rpc = rng.choice(RPCS)
    data = http2.message(calls.payload(rng, rpc)) * rng.choice((2, 10, 1000))
    head = http2.frame(Kind.HEADERS, END_HEADERS, 1, http2.block(calls.fields(rng, rpc)))
    return [_HELLO + head, *_data(1, data, end=rng.random() < 0.7)]


def strangers(rng: Random, calls: Calls) -> Pieces:
    """What is not HTTP/2 at all, or no longer."""
    first = rng.choice(
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
            http2.PREFACE,
            http2.PREFACE + http2.PREFACE,
            http2.PREFACE + calls.whole(rng, 1),
            b"\0" * 1000,
            b"",
        )
    )
    return [first, rubbish(rng, 2000)]


def spoils(rng: Random, calls: Calls) -> Pieces:
    """Any of the others, with bytes changed anywhere after the preface."""
    pieces = rng.choice(list(ATTACKS.values()))(rng, calls)
    whole = b"".join(pieces)[: 200 * 1024]
    cut = rng.choice((len(http2.PREFACE), len(http2.PREFACE), 0))
    return [whole[:cut], spoilt(rng, whole[cut:], _TOKENS)]


ATTACKS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (
        calls,
        protobuf,
        lengths,
        compression,
        fields,
        tables,
        rapid_reset,
        continuation,
        floods,
        frames,
        windows,
        unfinished,
        messages,
        strangers,
    )
}


def _nested(rng: Random, depth: int) -> bytes:
    """A list of JSON in a list, and so on, as some field of a message that has a Struct."""
    value = b""
    for _ in range(depth):
        value = b"\x0a" + http2.integer(len(value), 7) + value
        value = b"\x32" + http2.integer(len(value), 7) + value
    entry = b"\x0a\x01a\x12" + http2.integer(len(value), 7) + value
    struct = b"\x0a" + http2.integer(len(entry), 7) + entry
    for _ in range(rng.randrange(1, 3)):
        struct = bytes((rng.randrange(1, 16) << 3 | 2,)) + http2.integer(len(struct), 7) + struct
    return struct


def _call(rng: Random, calls: Calls, stream: int, data: bytes, rpc: object) -> bytes:
    head = http2.frame(Kind.HEADERS, END_HEADERS, stream, http2.block(calls.fields(rng, rpc)))  # type: ignore[arg-type]
    return head + b"".join(_data(stream, data))


def _data(stream: int, data: bytes, *, end: bool = True) -> Iterator[bytes]:
    """DATA frames that are as long as they may be."""
    for at in range(0, len(data), 2**14):
        yield http2.frame(Kind.DATA, 0, stream, data[at : at + 2**14])
    if end:
        yield http2.frame(Kind.DATA, END_STREAM, stream)


def _headers(stream: int, block: bytes) -> Iterator[bytes]:
    """HEADERS and CONTINUATION frames that are as long as they may be."""
    kind = Kind.HEADERS
    for at in range(0, len(block) or 1, 2**14):
        last = at + 2**14 >= len(block)
        yield http2.frame(kind, END_HEADERS if last else 0, stream, block[at : at + 2**14])
        kind = Kind.CONTINUATION


def _joined(rng: Random, pieces: Pieces) -> Pieces:
    """The same bytes in fewer pieces, or in one."""
    size = rng.choice((1, 10, 100, len(pieces)))
    return [b"".join(pieces[at : at + size]) for at in range(0, len(pieces), size)]
