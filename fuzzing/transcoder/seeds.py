"""Requests that are right: one for any binding of any RPC, from its rule and a random message."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.json_format import MessageToDict

from fuzzing.messages import filled
from fuzzing.transcoder.request import Request
from fuzzing.transcoder.values import BY_KIND, BY_NAME
from shop_services.gateway.fields import FieldPath, takes_text
from shop_services.gateway.rules import WHOLE, Rule, rules_of
from shop_services.gateway.templates import Wildcard

HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"content-type", b"application/json"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"content-type", b"text/html"),
    (b"content-type", b"application/x-www-form-urlencoded"),
    (b"content-encoding", b"gzip"),
    (b"accept", b"text/event-stream"),
    (b"accept", b"application/x-ndjson"),
    (b"accept", b"application/json;q=0.5, text/event-stream;q=0.9, */*;q=x"),
    (b"accept", b""),
    (b"grpc-timeout", b"1S"),
    (b"grpc-timeout", b"99999999H"),
    (b"grpc-timeout", b"0n"),
    (b"authorization", b"Bearer x.y.z"),
    (b"grpc-metadata-a", b"b"),
    (b"grpc-metadata-a-bin", b"AQI"),
    (b"x-request-id", b"r-1"),
    (b"last-event-id", b"7"),
    (b"accept-encoding", b"gzip, br;q=0"),
)
"""Headers that mean something to a gateway."""

_TEXTS = (
    "1",
    "true",
    "a",
    "a b",
    "a/b",
    "é",
    "KIND_CAT",
    "2026-01-31T09:30:00Z",
    "1.5s",
    "name,legs",
    "-7",
    "",
    "%",
    ":",
)


class Seeds:
    """Requests to all RPCs of some services."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        self._rules = [rule for service in services for rule in rules_of(service)]
        self._weights = [1 + len(rule.rpc.input_type.fields) for rule in self._rules]  # more to be wrong, more often
        self.tokens = tuple(sorted({token.encode() for rule in self._rules for token in _words(rule)}))
        """The words of the rules: pieces of paths, and names of fields."""

    def one(self, rng: Random) -> Request:
        """A request that is right, or nearly so: a text may be none for its field."""
        [rule] = rng.choices(self._rules, self._weights)
        message = filled(rng, rule.rpc.input_type)
        body = _body(rng, rule, message)
        chunks: tuple[bytes, ...] = ()
        if body is not None:
            at = rng.randrange(len(body) + 1)
            chunks = (body,) if rng.random() < 0.8 else (body[:at], body[at:])
        query = b"" if rule.body == WHOLE else _query(rng, rule.rpc.input_type)
        headers = tuple(rng.choice(HEADERS) for _ in range(rng.choice((0, 0, 1, 2))))
        method = rng.choice(("GET", "PURGE")) if rule.method == "*" else rule.method
        return Request(method, _path(rng, rule), query, headers, chunks)


def _path(rng: Random, rule: Rule) -> bytes:
    texts: list[str] = []
    for segment in rule.template.segments:
        if segment is Wildcard.REST:
            texts += [_quoted(rng) for _ in range(rng.randrange(3))]
        else:
            texts.append(_quoted(rng) if segment is Wildcard.ONE else quote(str(segment)))
    verb = f":{rule.template.verb}" if rule.template.verb else ""
    return f"/{'/'.join(texts)}{verb}".encode()


def _quoted(rng: Random) -> str:
    return quote(rng.choice(_TEXTS), safe="")


def _query(rng: Random, descriptor: Descriptor) -> bytes:
    pairs = []
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        path = _leaf(rng, descriptor)
        if path:
            name = ".".join(rng.choice((field.name, field.json_name)) for field in path)
            pairs.append(f"{name}={quote(rng.choice(_TEXTS))}")
    return "&".join(pairs).encode()


def _leaf(rng: Random, descriptor: Descriptor) -> FieldPath:
    path: list[FieldDescriptor] = []
    while descriptor.fields and len(path) < 4:
        field = rng.choice(descriptor.fields)
        path.append(field)
        if takes_text(field) or field.message_type is None:
            break
        descriptor = field.message_type
    return tuple(path)


def _body(rng: Random, rule: Rule, message: Any) -> bytes | None:
    if rule.body is None:
        return None
    value = MessageToDict(
        message,
        always_print_fields_with_no_presence=rng.random() < 0.2,
        preserving_proto_field_name=rng.random() < 0.3,
    )
    if isinstance(rule.body, FieldDescriptor):
        value = value.get(rule.body.json_name, value.get(rule.body.name, {}))
    elif rng.random() < 0.5:
        _doubt(rng, value, rule.rpc.input_type)
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")


def _doubt(rng: Random, json: dict[str, Any], descriptor: Descriptor) -> None:
    """Set a field, of this message or of one in it, to a value of its kind that is wrong, or right by a hair."""
    fields = [field for field in descriptor.fields if field.containing_oneof is None or not json]
    if not fields:
        return
    field = rng.choice(fields)
    inner = field.message_type
    value: Any = {}
    if inner is None:
        value = rng.choice(BY_KIND.get(field.type, BY_KIND[FieldDescriptor.TYPE_INT64]))
    elif inner.full_name in BY_NAME:
        value = rng.choice(BY_NAME[inner.full_name])
    else:
        _doubt(rng, value, inner)
    json.pop(field.name, None)
    json[field.json_name] = [value] if field.is_repeated else value


def _words(rule: Rule) -> Iterator[str]:
    yield from (f"/{segment}" for segment in rule.template.segments if isinstance(segment, str))
    if rule.template.verb:
        yield f":{rule.template.verb}"
    for field in rule.rpc.input_type.fields:
        yield from (field.name, f'"{field.json_name}":', f"&{field.json_name}=", f"{field.name}.")
