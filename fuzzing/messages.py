"""Random messages of any type, such as JSON can say: what is sent before it is spoilt, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf import duration_pb2, message_factory, struct_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc import error_details_pb2

_TEXTS = ("", "a", "é", "𝄞", "a/b", "a b", "%", '"\\', "\0", "x" * 70, "1", "true", "null", "a@b.example")
_IN_ANY: tuple[Any, ...] = (
    duration_pb2.Duration,
    struct_pb2.Value,
    wrappers_pb2.Int64Value,
    error_details_pb2.BadRequest,
)


def filled(rng: Random, descriptor: Descriptor, depth: int = 3) -> Any:
    """A message with some of its fields set, and at most `depth` messages inside each other."""
    message: Any = message_factory.GetMessageClass(descriptor)()
    special = _SPECIAL.get(descriptor.full_name)
    if special is not None:
        special(rng, message, depth)
        return message
    fields = [field for field in descriptor.fields if depth > 0 or field.message_type is None]
    for field in rng.sample(fields, rng.randrange(min(len(fields), 6) + 1)):
        if field.containing_oneof is None or message.WhichOneof(field.containing_oneof.name) is None:
            _fill(rng, message, field, depth)
    return message


def _fill(rng: Random, message: Any, field: FieldDescriptor, depth: int) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        entries = getattr(message, field.name)
        for _ in range(rng.randrange(3)):
            key = _scalar(rng, inner.fields_by_name["key"])
            value = inner.fields_by_name["value"]
            if value.message_type is None:
                entries[key] = _scalar(rng, value)
            else:
                entries[key].CopyFrom(filled(rng, value.message_type, depth - 2))
    elif field.is_repeated:
        getattr(message, field.name).extend(_one(rng, field, depth) for _ in range(rng.randrange(4)))
    elif inner is not None:
        getattr(message, field.name).CopyFrom(_one(rng, field, depth))
    else:
        setattr(message, field.name, _scalar(rng, field))


def _one(rng: Random, field: FieldDescriptor, depth: int) -> Any:
    return _scalar(rng, field) if field.message_type is None else filled(rng, field.message_type, depth - 1)


def _scalar(rng: Random, field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).number
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.randrange(5))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.choice((0.0, -0.0, 0.1, 1.0, -2.5, 1e20, 1e-20, 16777217.0, float("inf"), rng.gauss(0, 1000)))
    least, most = _RANGES[field.cpp_type]
    return rng.choice((0, 1, least, most, rng.randint(least, most)))


_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def _timestamp(rng: Random, message: Any, _depth: int) -> None:
    message.seconds = rng.choice((0, -62135596800, 253402300799, rng.randint(-(2**33), 2**33)))
    message.nanos = rng.choice((0, 1, 999_999_999, 500_000_000, 1_000))


def _duration(rng: Random, message: Any, _depth: int) -> None:
    message.seconds = rng.choice((0, 1, 315_575_999_999, rng.randrange(10_000)))
    message.nanos = rng.choice((0, 1, 999_999_999, 500_000_000))


def _field_mask(rng: Random, message: Any, _depth: int) -> None:
    message.paths.extend(
        rng.sample(("name", "nick_name", "animal.legs", "user.display_name", "price"), rng.randrange(3))
    )


def _any(rng: Random, message: Any, depth: int) -> None:
    if depth > 0 and rng.random() < 0.8:
        message.Pack(filled(rng, rng.choice(_IN_ANY).DESCRIPTOR, depth - 1), deterministic=True)


def _value(rng: Random, message: Any, depth: int) -> None:
    match rng.randrange(6 if depth > 0 else 4):
        case 0:
            message.null_value = 0
        case 1:
            message.number_value = rng.choice((0.0, 1.5, -1e300, 2.0**53))
        case 2:
            message.string_value = rng.choice(_TEXTS)
        case 3:
            message.bool_value = rng.random() < 0.5
        case 4:
            message.struct_value.CopyFrom(filled(rng, struct_pb2.Struct.DESCRIPTOR, depth - 1))
        case _:
            message.list_value.CopyFrom(filled(rng, struct_pb2.ListValue.DESCRIPTOR, depth - 1))


def _http_body(rng: Random, message: Any, _depth: int) -> None:
    message.content_type = rng.choice(("", "image/png", "text/plain; charset=utf-8"))
    message.data = rng.randbytes(rng.randrange(20))


_SPECIAL: dict[str, Callable[[Random, Any, int], None]] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.FieldMask": _field_mask,
    "google.protobuf.Any": _any,
    "google.protobuf.Value": _value,
    "google.api.HttpBody": _http_body,
}
