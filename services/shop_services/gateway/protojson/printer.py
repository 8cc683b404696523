"""Messages to the JSON of proto3.

Names are lowerCamelCase, 64-bit integers are strings, and fields without presence are always there, as grpc-gateway
prints them; a message (or `optional`) field that is not set is left out, where grpc-gateway writes null: a reader that
takes the one takes the other, and the schema of the answer stays simple.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shop_services.gateway.protojson import wellknown
from shop_services.gateway.protojson.errors import Unprintable
from shop_services.gateway.protojson.scalars import scalar_printer

Printer = Callable[[Any], Any]
"""Makes JSON of a field's value. Raises `Unprintable`."""

_printers: dict[Descriptor, Printer] = {}


def message_printer(descriptor: Descriptor) -> Printer:
    """What makes JSON of a message of this type; made once for each."""
    printer = _printers.get(descriptor)
    if printer is None:
        printer = wellknown.PRINTERS.get(descriptor.full_name)
        if descriptor.full_name == "google.protobuf.Any":
            printer = _print_any
        elif descriptor.full_name in wellknown.WRAPPERS:
            printer = _wrapper_printer(descriptor)
        elif printer is None:
            regular = _MessagePrinter(descriptor)
            _printers[descriptor] = regular  # before its fields, which may be of this same type
            regular.plan()
            return regular
        _printers[descriptor] = printer
    return printer


def field_printer(field: FieldDescriptor) -> Printer | None:
    """What makes JSON of the value of `field`, list and map included; None if the value is JSON as it is."""
    if (entry := map_entry(field)) is not None:
        return _map_printer(entry)
    one = _value_printer(field)
    if not field.is_repeated:
        return one
    if one is None:
        return list
    return lambda values: [one(value) for value in values]


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of a key and a value that a map is a list of on the wire; None if `field` is no map."""
    inner = field.message_type
    return inner if inner is not None and inner.GetOptions().map_entry else None


class _MessagePrinter:
    """The plan for one message type.

    One `attrgetter` reads all fields at once, in C and in the order of the .proto file; then only those that are not
    JSON already are looked at again.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._names: list[str] = []
        self._values: Callable[[Message], tuple[Any, ...]] = lambda message: ()
        self._convert: list[tuple[str, Printer]] = []
        self._optional: list[tuple[str, str, Printer | None]] = []

    def plan(self) -> None:
        fields = self._descriptor.fields
        self._names = [field.json_name for field in fields]
        if len(fields) == 1:
            only = fields[0].name
            self._values = lambda message: (getattr(message, only),)
        elif fields:
            self._values = attrgetter(*(field.name for field in fields))
        for field in fields:
            printer = field_printer(field)
            if field.has_presence:
                self._optional.append((field.json_name, field.name, printer))
            elif printer is not None:
                self._convert.append((field.json_name, printer))

    def __call__(self, message: Message) -> dict[str, Any]:
        json = dict(zip(self._names, self._values(message), strict=True))
        for name, printer in self._convert:
            json[name] = printer(json[name])
        for name, field_name, optional in self._optional:
            if not message.HasField(field_name):
                del json[name]
            elif optional is not None:
                json[name] = optional(json[name])
        return json


def _value_printer(field: FieldDescriptor) -> Printer | None:
    return scalar_printer(field) if field.message_type is None else message_printer(field.message_type)


def _map_printer(entry: Descriptor) -> Printer:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    name: Callable[[Any], str] = str
    if key.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        name = {True: "true", False: "false"}.__getitem__
    printer = _value_printer(value) or (lambda item: item)
    # Reading a map by its keys and not by items(): for messages, only this is what protobuf's maps of messages promise.
    return lambda entries: {name(k): printer(entries[k]) for k in entries}


def _wrapper_printer(descriptor: Descriptor) -> Printer:
    printer = scalar_printer(descriptor.fields_by_name["value"])
    return (lambda message: message.value) if printer is None else (lambda message: printer(message.value))


def _print_any(message: Any) -> dict[str, Any]:
    """An Any: its fields beside `@type`. What cannot be printed keeps its bytes, where json_format would fail.

    An Any is most often a detail of an error, and an error must reach the caller even if this process, which may be
    older than the one that made it, does not know all of its details.
    """
    if not message.type_url:
        return {}
    descriptor, content = wellknown.content_of(message)
    if descriptor is not None:
        try:
            json = message_printer(descriptor)(content)
        except Unprintable:
            pass
        else:
            fields = {"value": json} if wellknown.is_special(descriptor) else json
            return {"@type": message.type_url, **fields}
    return {"@type": message.type_url, "value": wellknown.base64_text(message.value)}
