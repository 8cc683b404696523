"""Requests are checked against the rules in their protos before a servicer sees them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.message import Message

from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.interceptor import CallInterceptor

MAX_VIOLATIONS = 50
"""How many violations of one request are told."""


class Validation(CallInterceptor):
    """Refuses a request that breaks a protovalidate rule, or has a NUL character in a text, as INVALID_ARGUMENT.

    A check costs about 10 µs. The validator compiles the rules of a message when it meets the first one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._validator = protovalidate.Validator()
        self._most: dict[str, dict[str, int]] = {}  # as many as there are types of requests

    def check(self, request: Message) -> None:
        # First, since other rules of a list compare each item with each: thousands of empty ones take seconds.
        name = request.DESCRIPTOR.full_name
        if (most := self._most.get(name)) is None:
            most = self._most[name] = _most_items(request)
        if long := [field for field, items in most.items() if len(getattr(request, field)) > items]:
            raise InvalidArgument((field, f"must contain no more than {most[field]} item(s)") for field in long)
        if found := self._validator.collect_violations(request):
            raise InvalidArgument(
                (_path(violation), violation.proto.message or violation.proto.rule_id)
                for violation in found[:MAX_VIOLATIONS]
            )
        # PostgreSQL cannot store a NUL in a text. A request that is free of zero bytes when serialized has none.
        suspect = b"\0" in request.SerializeToString()
        if suspect and (fields := list(islice(_nul_fields(request, ""), MAX_VIOLATIONS))):
            raise InvalidArgument((path, "must not contain the character NUL") for path in fields)


def _most_items(message: Message) -> dict[str, int]:
    """How many items each list in messages of this type may have, by the name of its field, where a rule says so."""
    rules = {
        field.name: field.GetOptions().Extensions[validate_pb2.field].repeated
        for field in message.DESCRIPTOR.fields
        if field.is_repeated
    }
    return {name: rule.max_items for name, rule in rules.items() if rule.HasField("max_items")}


def _path(violation: protovalidate.Violation) -> str:
    """The path of a violation's field as google.rpc.BadRequest writes it: `items[1].sku`, `labels["a"].text`."""
    path = ""
    field = violation.proto.field
    for element in field.elements if field else ():
        path += f".{element.field_name}" if path else element.field_name
        if (subscript := element.subscript) is not None:
            path += f"[{subscript.value}]" if subscript.field == "index" else f'["{subscript.value}"]'
    return path


def _nul_fields(message: Message, prefix: str) -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, item in value.items():
                yield from _nul_value(key, path)
                yield from _nul_value(item, f'{path}["{key}"]')
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _nul_value(item, f"{path}[{index}]")
        else:
            yield from _nul_value(value, path)


def _nul_value(value: object, path: str) -> Iterator[str]:
    if isinstance(value, str) and "\0" in value:
        yield path
    elif isinstance(value, Message):
        yield from _nul_fields(value, f"{path}.")
