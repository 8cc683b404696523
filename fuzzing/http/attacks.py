"""What is done to a server of HTTP/1.1: a function for each kind of conversation, from requests of the transcoder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from fuzzing.octets import rubbish, spoilt
from fuzzing.transcoder.request import Request
from fuzzing.transcoder.seeds import Seeds
from fuzzing.transcoder.spoiling import Spoiler
from shop_services.gateway.wiring import SERVICES

TOKEN = b"@TOKEN@"
"""What stands for a good token: conversations are made, and kept, without knowing any."""

Pieces = list[bytes]
Attack = Callable[[Random], Pieces]

_seeds = Seeds(SERVICES)
_spoiler = Spoiler(_seeds.tokens)
_END = b"\r\n"
_TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"chunked",
    b"Content-Length: ",
    b"\0",
    b"\xff",
    b"GET ",
)
_OWN = (
    b"/healthz",
    b"/readyz",
    b"/openapi.json",
    b"/docs",
    b"/docs/",
    b"/metrics",
    b"/.well-known/jwks.json",
    b"/docs/../x",
    b"*",
)
_BODY = b'{"productIds":["a"]}'


def requests(rng: Random) -> Pieces:
    """Requests to any route, right or nearly so, one after the other or sent ahead."""
    return [_written(rng, _seeds.one(rng)) for _ in range(rng.choice((1, 1, 3, 20)))]


def spoilt_requests(rng: Random) -> Pieces:
    """Requests that are wrong for the transcoder, as HTTP allows them."""
    wrong = [_spoiler.spoilt(rng, _seeds.one(rng), _seeds.one(rng)) for _ in range(rng.choice((1, 2, 5)))]
    return [_written(rng, request) for request in wrong]


def pages(rng: Random) -> Pieces:
    """The gateway's own pages, by any method."""
    method = rng.choice((b"GET", b"GET", b"HEAD", b"POST", b"OPTIONS", b"TRACE", b"CONNECT"))
    headers = rng.choice(
        (
            (),
            ((b"Range", b"bytes=0-1,5-,-3"),),
            ((b"If-None-Match", b'W/"x", *'),),
            ((b"Accept-Encoding", b"gzip;q=2"),),
        )
    )
    return [_head(method, rng.choice(_OWN), (*headers, (b"Host", b"x"))) + _END for _ in range(rng.choice((1, 4)))]


def framing(rng: Random) -> Pieces:
    """Bodies that are not as long as they say, or say so twice: what smuggles one request in another."""
    length = rng.choice(
        (
            b"20",
            b"0",
            b"19",
            b"21",
            b"-1",
            b"+20",
            b"20, 20",
            b"20, 21",
            b"0x14",
            b"4194304",
            b"4194305",
            b"9" * 30,
            b"",
            b"\xb2",
        )
    )
    lines = [rng.choice((b"Content-Length: " + length, b"Content-Length : 20", b"content-length:20"))]
    if rng.random() < 0.5:
        lines.append(
            b"Transfer-Encoding: "
            + rng.choice(
                (b"chunked", b"identity", b"chunked, chunked", b"gzip, chunked", b"xchunked", b"\tchunked", b"Chunked")
            )
        )
    if rng.random() < 0.3:
        lines.append(b"Content-Length: " + rng.choice((b"20", b"3")))
    rng.shuffle(lines)
    smuggled = _head(b"GET", b"/v1/products", ((b"Host", b"x"),)) + _END
    head = b"POST /v1/products:batchGet HTTP/1.1\r\nHost: x\r\n" + _END.join(lines) + _END + _END
    return [head, rng.choice((_BODY, b"14\r\n" + _BODY + b"\r\n0\r\n\r\n", b"")) + rng.choice((b"", smuggled))]


def chunks(rng: Random) -> Pieces:
    """Chunked bodies: sizes that are none, extensions and trailers without an end, a byte each."""
    head = _head(b"POST", b"/v1/users:login", ((b"Host", b"x"), (b"Transfer-Encoding", b"chunked"))) + _END
    match rng.randrange(7):
        case 0:
            body = b"".join(b"1\r\n%c\r\n" % byte for byte in _BODY * rng.choice((1, 200))) + b"0\r\n\r\n"
        case 1:
            body = (
                rng.choice((b"fffffffffffffffff", b"-1", b"0x2", b"g", b"", b" 2", b"2 ", b"00000000000000000002"))
                + b"\r\n{}\r\n0\r\n\r\n"
            )
        case 2:
            body = b"2;" + b"x=y;" * rng.choice((1, 1000, 30_000)) + b"\r\n{}\r\n0\r\n\r\n"
        case 3:
            body = b"2\r\n{}\r\n0\r\n" + b"Trailer: x\r\n" * rng.choice((1, 1000, 30_000)) + rng.choice((b"\r\n", b""))
        case 4:
            body = b"2\r\n{}0\r\n\r\n"
        case 5:
            body = b"100000\r\n" + b" " * 2**20 + b"\r\n" * 5
        case _:
            body = spoilt(rng, b"2\r\n{}\r\n0\r\n\r\n", _TOKENS, most=5000)
    return [head, body]


def heads(rng: Random) -> Pieces:
    """Heads that are too long, too many, or break the grammar."""
    match rng.randrange(8):
        case 0:
            lines = [b"X-%d: y" % number for number in range(rng.choice((50, 99, 101, 3000)))]
        case 1:
            lines = [b"X: " + b"y" * rng.choice((8000, 33_000, 300_000))]
        case 2:
            lines = [b"X" * rng.choice((8000, 70_000)) + b": y"]
        case 3:
            lines = [
                rng.choice(
                    (
                        b"X y",
                        b": y",
                        b" X: y",
                        b"X: a\r\n b",
                        b"X: \0",
                        b"X\0: y",
                        b"X: a\nY: b",
                        b"\xff: \xff",
                        b"X: a\rb",
                    )
                )
            ]
        case 4:
            lines = [
                rng.choice(
                    (
                        b"Host: y",
                        b"Host:",
                        b"Host: [::",
                        b"Host: a@b",
                        b"Expect: 100-continue",
                        b"Expect: x",
                        b"Connection: close, x" * 50,
                        b"Upgrade: h2c",
                    )
                )
            ]
        case 5:
            lines = [
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: " + rng.choice((b"h2c", b"websocket")),
                b"HTTP2-Settings: AAMAAABk",
                b"Sec-WebSocket-Key: x",
            ]
        case 6:
            lines = [
                rng.choice(
                    (b"Authorization: Bearer ", b"X-Forwarded-For: ", b"X-Request-Id: ", b"Accept: ", b"Forwarded: ")
                )
                + spoilt(rng, b"a, b;q=1", _TOKENS, most=5000)
            ]
        case _:
            lines = []
    target = rng.choice(
        (
            b"/v1/products",
            b"/v1/products?" + b"a=b&" * rng.choice((1, 7000)),
            b"/" + b"a/" * 15_000,
            b"http://x/v1/products",
            b"//",
            b"/\xff",
            b"x",
            b"/%",
            b"/v1/products?\0",
        )
    )
    version = rng.choice(
        (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"http/1.1", b"")
    )
    return [
        b"GET " + target + b" " + version + b"\r\nHost: x\r\n",
        *(line + _END for line in lines),
        rng.choice((_END, b"")),
    ]


def unfinished(rng: Random) -> Pieces:
    """Requests that never end: cut anywhere."""
    whole = _written(rng, _seeds.one(rng))
    return [whole[: rng.randrange(len(whole))]]


def streams(rng: Random) -> Pieces:
    """Streams that nobody reads to their end, as events or as lines."""
    accept = rng.choice((b"text/event-stream", b"application/x-ndjson", b"*/*", b"text/html", b""))
    path = rng.choice(
        (b"/v1/products:watch", b"/v1/products:watch?afterRevision=0", b"/v1/orders/x:watch", b"/v1/products:watch?x")
    )
    fields = ((b"Host", b"x"), (b"Accept", accept), (b"Last-Event-ID", b"1"))
    return [
        _head(rng.choice((b"GET", b"GET", b"HEAD")), path, fields) + _END,
        rng.choice((b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")),
    ]


def pipelines(rng: Random) -> Pieces:
    """Very many requests sent ahead."""
    one = (
        _head(
            b"GET",
            rng.choice((b"/healthz", b"/v1/products?pageSize=1", b"/nothing", b"/v1/products:watch")),
            ((b"Host", b"x"),),
        )
        + _END
    )
    return [one * rng.choice((10, 100, 1000))]


def strangers(rng: Random) -> Pieces:
    """What is not HTTP/1.1 at all."""
    first = rng.choice(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0" * 500,
            b"\r\n" * 5000,
            b"G",
            b"",
        )
    )
    return [first, rubbish(rng, 2000)]


def spoils(rng: Random) -> Pieces:
    """Any of the others, with bytes changed anywhere."""
    whole = b"".join(rng.choice(list(ATTACKS.values()))(rng))[: 200 * 1024]
    return [spoilt(rng, whole, _TOKENS)]


ATTACKS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (
        requests,
        spoilt_requests,
        pages,
        framing,
        chunks,
        heads,
        unfinished,
        streams,
        pipelines,
        strangers,
    )
}


def _head(method: bytes, target: bytes, fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """A request's line and fields, without the empty line after them."""
    return method + b" " + target + b" HTTP/1.1\r\n" + b"".join(name + b": " + value + _END for name, value in fields)


def _written(rng: Random, request: Request) -> bytes:
    """A request of the transcoder's as bytes; most with a token."""
    fields = [(b"Host", b"x"), *request.headers]
    if rng.random() < 0.7:
        fields = [
            *((name, value) for name, value in fields if name != b"authorization"),
            (b"Authorization", b"Bearer " + TOKEN),
        ]
    if len(request.chunks) > 1:
        fields.append((b"Transfer-Encoding", b"chunked"))
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in request.chunks if chunk) + b"0\r\n\r\n"
    else:
        body = request.body
        if body:
            fields.append((b"Content-Length", b"%d" % len(body)))
    target = request.path + (b"?" + request.query if request.query else b"")
    return (
        _head(request.method.encode(), target, tuple(fields))
        + _END
        + (body[: len(body) // 2] if request.leaves else body)
    )
