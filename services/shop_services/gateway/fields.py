"""Fields of messages by name, and set from text: how paths and queries reach a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shop_services.gateway.protojson import FieldError, message_reader
from shop_services.gateway.protojson.scalars import text_reader
from shop_services.gateway.protojson.wellknown import WRAPPERS

FieldPath = tuple[FieldDescriptor, ...]
"""From a message to a field of it, or of a message in it."""

MAX_STEPS = 16
"""How many names a path may have. A type that contains itself would allow for any number."""

_FROM_TEXT = frozenset(f"google.protobuf.{name}" for name in ("Timestamp", "Duration", "FieldMask"))


@cache  # as many as there are message types
def fields_of(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    """The fields of a message under both of their names, as in the .proto file and in lowerCamelCase."""
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def resolve(descriptor: Descriptor, path: str) -> FieldPath:
    """The fields that the names in `path`, joined by dots, lead through. Raises `FieldError`: there are none."""
    steps: list[FieldDescriptor] = []
    inside: Descriptor | None = descriptor
    for name in path.split("."):
        field = fields_of(inside).get(name) if inside is not None and len(steps) < MAX_STEPS else None
        if field is None:
            raise FieldError(path, "unknown field")
        if steps and steps[-1].is_repeated:
            raise FieldError(path, f"is inside of {steps[-1].name!r}, which is repeated")
        steps.append(field)
        inside = field.message_type
    return tuple(steps)


def spelled(path: FieldPath) -> str:
    """`path` with names as in the .proto file."""
    return ".".join(field.name for field in path)


def takes_text(field: FieldDescriptor) -> bool:
    """Whether a single text can be a value of `field` (one value, if it is repeated)."""
    if field.message_type is None:
        return True
    return field.message_type.full_name in _FROM_TEXT or field.message_type.full_name in WRAPPERS


def text_setter(path: FieldPath) -> Callable[[Message, str], None]:
    """What sets the field at `path`, or appends to it if it is repeated, from text. It raises `FieldError`."""
    whole = spelled(path)
    steps = [(field.name, field.containing_oneof.name if field.containing_oneof else "") for field in path]
    put = _appender(path[-1]) if path[-1].is_repeated else _setter(path[-1])

    def set_text(message: Any, text: str) -> None:
        parent = message
        for name, oneof in steps:
            if oneof and (other := message.WhichOneof(oneof)) not in (None, name):
                raise FieldError(whole, f"excludes {other}, which is given too")
            parent, message = message, getattr(message, name)
        try:
            put(parent, text)
        except FieldError as error:
            raise error.within(whole) from None
        except ValueError as error:
            raise FieldError(whole, str(error)) from None

    return set_text


def _setter(field: FieldDescriptor) -> Callable[[Any, str], None]:
    name = field.name
    if field.message_type is None:
        read = text_reader(field)
        return lambda message, text: setattr(message, name, read(text))
    fill = _text_filler(field.message_type)

    def put(message: Any, text: str) -> None:
        child = getattr(message, name)
        child.SetInParent()
        fill(child, text)

    return put


def _appender(field: FieldDescriptor) -> Callable[[Any, str], None]:
    name = field.name
    if field.message_type is None:
        read = text_reader(field)
        return lambda message, text: getattr(message, name).append(read(text))
    fill = _text_filler(field.message_type)
    return lambda message, text: fill(getattr(message, name).add(), text)


def _text_filler(descriptor: Descriptor) -> Callable[[Any, str], None]:
    if descriptor.full_name in WRAPPERS:
        read_value = text_reader(descriptor.fields_by_name["value"])
        return lambda message, text: setattr(message, "value", read_value(text))
    read = message_reader(descriptor)
    return lambda message, text: read(text, message, 0)
