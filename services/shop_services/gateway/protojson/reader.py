"""The JSON of proto3 to messages. Both names of a field are taken (lowerCamelCase, and as in the .proto file).

Stricter than protobuf's own reader where leniency hides a mistake: base64 with foreign characters is refused, and so is
a field that is given under both names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shop_services.gateway.protojson import wellknown
from shop_services.gateway.protojson.errors import FieldError
from shop_services.gateway.protojson.printer import map_entry
from shop_services.gateway.protojson.scalars import read_string, scalar_reader, text_reader

MAX_DEPTH = 99
"""How many messages may be inside each other: one less than protobuf's decoders take, which would refuse the result,
since a message that has nothing in it (a time, an entry of a map) is not counted."""

Reader = Callable[[object, Any, int], None]
"""Fills a message (or sets a field of it) from JSON; the last argument is how much deeper it may go.

Raises `FieldError`, or any `ValueError` about the value as a whole.
"""

_readers: dict[Descriptor, Reader] = {}


def message_reader(descriptor: Descriptor) -> Reader:
    """What fills a message of this type from JSON; made once for each."""
    reader = _readers.get(descriptor)
    if reader is None:
        reader = wellknown.READERS.get(descriptor.full_name)
        if descriptor.full_name == "google.protobuf.Any":
            reader = _read_any
        elif descriptor.full_name in wellknown.WRAPPERS:
            reader = _wrapper_reader(descriptor)
        elif reader is None:
            regular = _MessageReader()
            _readers[descriptor] = regular  # before its fields, which may be of this same type
            regular.plan(descriptor)
            return regular
        _readers[descriptor] = reader
    return reader


def field_reader(field: FieldDescriptor) -> Reader:
    """What sets `field` of a message from JSON that is not null."""
    if (entry := map_entry(field)) is not None:
        return _map_reader(field.name, entry)
    if field.message_type is not None:
        read = message_reader(field.message_type)
        return _messages_reader(field.name, read) if field.is_repeated else _message_field_reader(field.name, read)
    return _scalars_reader(field) if field.is_repeated else _scalar_field_reader(field)


class _MessageReader:
    """The plan for one message type: what sets the field of each name."""

    def __init__(self) -> None:
        self._fields: dict[str, tuple[FieldDescriptor, Reader, bool]] = {}

    def plan(self, descriptor: Descriptor) -> None:
        for field in descriptor.fields:
            entry = (field, field_reader(field), _takes_null(field))
            self._fields[field.name] = self._fields[field.json_name] = entry

    def __call__(self, json: object, message: Any, depth: int) -> None:
        if not isinstance(json, dict):
            raise FieldError("", "must be an object")
        wellknown.check_depth(depth)
        given: set[str] = set()
        for name, value in json.items():
            if (known := self._fields.get(name)) is None:
                raise FieldError(name, "unknown field")
            field, read, takes_null = known
            if field.name in given:
                raise FieldError(field.name, "is given twice")
            given.add(field.name)
            if value is None and not takes_null:
                continue  # null is the same as not there
            if field.containing_oneof is not None and (other := message.WhichOneof(field.containing_oneof.name)):
                raise FieldError(field.name, f"excludes {other}, which is given too")
            try:
                read(value, message, depth)
            except FieldError as error:
                raise error.within(field.name) from None
            except ValueError as error:
                raise FieldError(field.name, str(error)) from None


def _takes_null(field: FieldDescriptor) -> bool:
    if field.is_repeated:
        return False
    if field.message_type is not None:
        return field.message_type.full_name == "google.protobuf.Value"
    return field.enum_type is not None and field.enum_type.full_name == "google.protobuf.NullValue"


def _scalar_field_reader(field: FieldDescriptor) -> Reader:
    name, read = field.name, scalar_reader(field)

    def set_scalar(json: object, message: Any, depth: int) -> None:
        setattr(message, name, read(json))

    return set_scalar


def _message_field_reader(name: str, read: Reader) -> Reader:
    def set_message(json: object, message: Any, depth: int) -> None:
        child = getattr(message, name)
        child.SetInParent()
        read(json, child, depth - 1)

    return set_message


def _scalars_reader(field: FieldDescriptor) -> Reader:
    name, read = field.name, scalar_reader(field)

    def set_scalars(json: object, message: Any, depth: int) -> None:
        add = getattr(message, name).append
        for index, item in enumerate(_list(json)):
            try:
                add(read(item))
            except ValueError as error:
                raise FieldError(f"[{index}]", str(error)) from None

    return set_scalars


def _messages_reader(name: str, read: Reader) -> Reader:
    def set_messages(json: object, message: Any, depth: int) -> None:
        add = getattr(message, name).add
        for index, item in enumerate(_list(json)):
            try:
                read(item, add(), depth - 1)
            except FieldError as error:
                raise error.within(f"[{index}]") from None
            except ValueError as error:
                raise FieldError(f"[{index}]", str(error)) from None

    return set_messages


def _map_reader(name: str, entry: Descriptor) -> Reader:
    value = entry.fields_by_name["value"]
    read_key = text_reader(entry.fields_by_name["key"])
    read_scalar = None if value.message_type is not None else scalar_reader(value)
    read_message = None if value.message_type is None else message_reader(value.message_type)

    def set_map(json: object, message: Any, depth: int) -> None:
        if not isinstance(json, dict):
            raise FieldError("", "must be an object")
        entries = getattr(message, name)
        for text, item in json.items():
            try:
                if read_scalar is not None:
                    entries[read_key(text)] = read_scalar(item)
                elif read_message is not None:
                    read_message(item, entries[read_key(text)], depth - 2)
            except FieldError as error:
                raise error.within(f'["{text}"]') from None
            except ValueError as error:
                raise FieldError(f'["{text}"]', str(error)) from None

    return set_map


def _list(json: object) -> list[Any]:
    if not isinstance(json, list):
        raise FieldError("", "must be a list")
    return json


def _wrapper_reader(descriptor: Descriptor) -> Reader:
    read = scalar_reader(descriptor.fields_by_name["value"])

    def set_wrapper(json: object, message: Any, depth: int) -> None:
        message.value = read(json)

    return set_wrapper


def _read_any(json: object, message: Any, depth: int) -> None:
    if not isinstance(json, dict):
        raise FieldError("", "must be an object")
    if not json:
        return
    if not isinstance(type_url := json.get("@type"), str):
        raise FieldError("", "must have an '@type'")
    try:
        read_string(type_url)
    except ValueError as error:
        raise FieldError("", f"has an '@type' that {error}") from None
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    except KeyError:
        raise FieldError("", f"has an unknown '@type': {type_url!r}") from None
    content: Message = message_factory.GetMessageClass(descriptor)()
    fields = {name: value for name, value in json.items() if name != "@type"}
    if wellknown.is_special(descriptor):
        if fields.keys() != {"value"}:
            raise FieldError("", "must have a 'value' and nothing else beside '@type'")
        message_reader(descriptor)(fields["value"], content, depth - 1)
    else:
        message_reader(descriptor)(fields, content, depth - 1)
    message.Pack(content)
    message.type_url = type_url
