"""Requests that are wrong in one way or several, made from others: as bytes, and as the JSON that they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from fuzzing.octets import rubbish, spoilt
from fuzzing.transcoder.request import Request
from fuzzing.transcoder.seeds import HEADERS
from fuzzing.transcoder.values import VALUES

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get", "*", "M" * 300)
_IN_PATH = (
    b"%2F",
    b"%2f",
    b"%00",
    b"%",
    b"%zz",
    b"%ff",
    b"%C3%A9",
    b":",
    b"::",
    b"/",
    b"//",
    b"/..",
    b"*",
    b"**",
    b"?",
    b"#",
)
_IN_QUERY = (b"&", b"=", b"%", b"+", b"%26", b"=&", b".", b"..", b"[0]", b"%ed%a0%80", b"&a=1", b";", b"=1&")
_IN_BODY = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"\\u0000",
    b'"@type":', b"\xef\xbb\xbf", b"\xed\xa0\x80", b"9" * 50, b"[[", b'{"a":', b'{"a":1,"a":2}', b" ", b"0x1",
    b"-0.0",
)  # fmt: skip
_IN_HEADER = (
    b"grpc-metadata-",
    b"-bin",
    b"authorization",
    b"grpc-timeout",
    b"host",
    b";",
    b",",
    b"q=",
    b"=",
    b"\xff",
    b"\t",
    b"charset=",
)

_WRAPPED: tuple[Callable[[Any], Any], ...] = (
    lambda value: [value],
    lambda value: {"child": value},
    lambda value: {"everything": value},
    lambda value: {"structValue": value, "any": value},
    lambda value: {"@type": "/google.protobuf.Any", "value": value},
    lambda value: {"@type": "/tests.zoo.v1.Everything", "any": value},
    lambda value: {"a": value},
)


class Spoiler:
    """Makes other requests from requests. `tokens` are words that mean something in them."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._path = (*_IN_PATH, *tokens)
        self._query = (*_IN_QUERY, *tokens)
        self._body = (*_IN_BODY, *tokens)
        self._header = (*_IN_HEADER, *(part for header in HEADERS for part in header))
        self._changes = (
            self._method,
            self._in_path,
            self._in_path,
            self._in_query,
            self._in_query,
            self._in_headers,
            self._in_headers,
            self._in_body,
            self._in_body,
            self._in_json,
            self._in_json,
            self._in_json,
            self._in_json,
            self._wrapped,
            self._chunks,
            self._leaves,
            self._spliced,
            self._rubbish,
        )

    def spoilt(self, rng: Random, request: Request, other: Request) -> Request:
        """`request` after some changes; what it lacks may be taken from `other`."""
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            request = rng.choice(self._changes)(rng, request, other)
        return request

    def _method(self, rng: Random, request: Request, _other: Request) -> Request:
        return replace(request, method=rng.choice(_METHODS))

    def _in_path(self, rng: Random, request: Request, _other: Request) -> Request:
        path = spoilt(rng, request.path, self._path)
        return replace(request, path=path if rng.random() < 0.05 or path.startswith(b"/") else b"/" + path)

    def _in_query(self, rng: Random, request: Request, _other: Request) -> Request:
        return replace(request, query=spoilt(rng, request.query, self._query))

    def _in_headers(self, rng: Random, request: Request, _other: Request) -> Request:
        headers = [*request.headers, rng.choice(HEADERS)]
        at = rng.randrange(len(headers))
        name, value = headers[at]
        if rng.random() < 0.3:
            name = spoilt(rng, name, self._header, most=200).lower()
        elif rng.random() < 0.7:
            value = spoilt(rng, value, self._header, most=4000)
        headers[at] = name, value
        framing = (b"content-length", b"transfer-encoding")  # the HTTP server's, which has checked them
        return replace(request, headers=tuple(header for header in headers if header[0] not in framing))

    def _in_body(self, rng: Random, request: Request, _other: Request) -> Request:
        return replace(request, chunks=(spoilt(rng, request.body, self._body),))

    def _in_json(self, rng: Random, request: Request, _other: Request) -> Request:
        try:
            value = json.loads(request.body)
        except (ValueError, RecursionError):
            return self._in_body(rng, request, _other)
        for _ in range(rng.choice((1, 1, 2, 4))):
            value = _changed(rng, value)
        try:
            return replace(
                request, chunks=(json.dumps(value, ensure_ascii=rng.random() < 0.9).encode(errors="surrogatepass"),)
            )
        except RecursionError:
            return request

    def _wrapped(self, rng: Random, request: Request, _other: Request) -> Request:
        """A value deep inside of others, too deep for whoever recurses."""
        wrap = rng.choice(_WRAPPED)
        before, after = json.dumps(wrap(0)).encode().split(b"0", 1)
        times = rng.choice((3, 30, 99, 100, 101, 300, 1000, 20_000))
        return replace(request, chunks=(before * times + (request.body or b"0") + after * times,))

    def _chunks(self, rng: Random, request: Request, _other: Request) -> Request:
        size = rng.choice((1, 2, 7, 1000))
        body = request.body[:2000]
        return replace(request, chunks=tuple(body[at : at + size] for at in range(0, len(body), size)))

    def _leaves(self, rng: Random, request: Request, _other: Request) -> Request:
        return replace(request, leaves=True)

    def _spliced(self, rng: Random, request: Request, other: Request) -> Request:
        name = rng.choice(("path", "query", "headers", "chunks"))
        return replace(request, **{name: getattr(other, name)})

    def _rubbish(self, rng: Random, request: Request, _other: Request) -> Request:
        return replace(request, chunks=(rubbish(rng, 200),))


def _changed(rng: Random, value: Any) -> Any:
    """`value` with something in it, at any depth, replaced, added, taken out, or named otherwise."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {key: item for key, item in value.items() if key != name}
            case 1:
                return {
                    (rng.choice(("", "x", f"{key}x", "é", "@type")) if key == name else key): value[key]
                    for key in value
                }
            case 2:
                return {**value, rng.choice(("x", "1", "@type", "value")): rng.choice(VALUES)}
            case _:
                return {**value, name: _changed(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(5):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + value[at : at + 1] * rng.choice((2, 10, 300)) + value[at + 1 :]
            case _:
                return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice(VALUES) if rng.random() < 0.9 else rng.choice(_WRAPPED)(value)
