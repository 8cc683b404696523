"""The messages of google.protobuf that have a JSON of their own (but Any, which holds any message)."""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from shop_services.gateway.protojson.errors import FieldError, Unprintable
from shop_services.gateway.protojson.scalars import print_double, read_double, read_string

WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_CAPITAL = re.compile(r"[A-Z]")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_SAYABLE = re.compile(r"(?:_?[a-z]|[0-9])+(?:\.(?:_?[a-z]|[0-9])+)*")  # what lowerCamelCase can spell, and give back


def is_special(descriptor: Descriptor) -> bool:
    """Whether its JSON is not simply an object of its fields."""
    return (
        descriptor.full_name in WRAPPERS
        or descriptor.full_name in PRINTERS
        or descriptor.full_name == "google.protobuf.Any"
    )


def content_of(message: Any) -> tuple[Descriptor, Message] | tuple[None, None]:
    """The message in an Any, with its type; None if this process does not know the type, or the bytes are not of it."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(message.type_url.rpartition("/")[2])
        return descriptor, message_factory.GetMessageClass(descriptor).FromString(message.value)
    except (KeyError, DecodeError):
        return None, None


def base64_text(data: bytes) -> str:
    """`data` as JSON has it."""
    return base64.b64encode(data).decode("ascii")


@lru_cache(maxsize=4096)  # the times of a page of products are few, and each is read many times
def _text_of_second(seconds: int) -> str:
    try:
        return (_EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    except OverflowError:
        raise Unprintable(f"a Timestamp of {seconds} seconds is not in the years 1 to 9999") from None


def _print_timestamp(message: Any) -> str:
    nanos = message.nanos
    if not 0 <= nanos < 1_000_000_000:
        raise Unprintable(f"a Timestamp with {nanos} nanoseconds")
    return f"{_text_of_second(message.seconds)}{_fraction(nanos)}Z"


def _fraction(nanos: int) -> str:
    """`.` and 3, 6 or 9 digits; nothing for 0."""
    if not nanos:
        return ""
    text = f".{nanos:09}"
    return text[:4] if text.endswith("000000") else text[:7] if text.endswith("000") else text


def _by_itself(message: Any) -> Any:
    try:
        return message.ToJsonString()
    except ValueError as error:
        raise Unprintable(str(error)) from None


def _print_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "number_value":
        number = print_double(message.number_value)
        if isinstance(number, str):
            raise Unprintable(f"a Value of {number}")  # as a string it would be read back as one
        return number
    value = getattr(message, kind)
    return _print_struct(value) if kind == "struct_value" else _print_list(value) if kind == "list_value" else value


def _print_struct(message: Any) -> dict[str, Any]:
    fields = message.fields
    return {name: _print_value(fields[name]) for name in fields}


def _print_list(message: Any) -> list[Any]:
    return [_print_value(value) for value in message.values]


def _read_timestamp(value: object, message: Any, depth: int) -> None:
    _parse(value, message, "must be a time such as 2026-01-31T09:30:00Z")


def _read_duration(value: object, message: Any, depth: int) -> None:
    _parse(value, message, "must be a duration in seconds such as 1.5s, from -315576000000s to 315576000000s")


def _parse(value: object, message: Any, otherwise: str) -> None:
    text = read_string(value)
    try:
        message.FromJsonString(text)
    except (ValueError, OverflowError):
        raise FieldError("", otherwise) from None


def _read_field_mask(value: object, message: Any, depth: int) -> None:
    """Paths separated by commas, in lowerCamelCase, as proto3 JSON has them, or as the .proto file spells them."""
    text = read_string(value)
    paths = text.split(",") if text else []
    message.Clear()
    for path in paths:
        name = _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", path)
        if not _PATH.fullmatch(path) or not _SAYABLE.fullmatch(name):
            raise FieldError("", f"must be the names of fields separated by commas; {path!r} is none")
        message.paths.append(name)


def _read_value(value: object, message: Any, depth: int) -> None:
    check_depth(depth)
    match value:
        case None:
            message.null_value = 0
        case bool():
            message.bool_value = value
        case str():
            message.string_value = read_string(value)
        case int() | float():
            message.number_value = read_double(value)
        case dict():
            message.struct_value.SetInParent()
            _read_struct(value, message.struct_value, depth - 1)
        case _:
            message.list_value.SetInParent()
            _read_list(value, message.list_value, depth - 1)


def _read_struct(value: object, message: Any, depth: int) -> None:
    if not isinstance(value, dict):
        raise FieldError("", "must be an object")
    check_depth(depth)
    for name, item in value.items():
        try:
            _read_value(item, message.fields[read_string(name)], depth - 2)  # an entry of the map, and the Value in it
        except FieldError as error:
            raise error.within(name) from None
        except ValueError as error:
            raise FieldError(name, str(error)) from None


def _read_list(value: object, message: Any, depth: int) -> None:
    if not isinstance(value, list):
        raise FieldError("", "must be a list")
    check_depth(depth)
    for index, item in enumerate(value):
        try:
            _read_value(item, message.values.add(), depth - 1)
        except FieldError as error:
            raise error.within(f"[{index}]") from None
        except ValueError as error:
            raise FieldError(f"[{index}]", str(error)) from None


def check_depth(depth: int) -> None:
    """Refuse to go deeper than a decoder of the binary form would."""
    if depth < 0:
        raise FieldError("", "is nested too deep")


PRINTERS: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": _print_timestamp,
    "google.protobuf.Duration": _by_itself,
    "google.protobuf.FieldMask": _by_itself,
    "google.protobuf.Value": _print_value,
    "google.protobuf.Struct": _print_struct,
    "google.protobuf.ListValue": _print_list,
}

READERS: dict[str, Callable[[object, Any, int], None]] = {
    "google.protobuf.Timestamp": _read_timestamp,
    "google.protobuf.Duration": _read_duration,
    "google.protobuf.FieldMask": _read_field_mask,
    "google.protobuf.Value": _read_value,
    "google.protobuf.Struct": _read_struct,
    "google.protobuf.ListValue": _read_list,
}
