"""Strategies for messages of any type, from its descriptor: what JSON can say, and nothing else."""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, duration_pb2, message_factory, struct_pb2, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2
from hypothesis import strategies as st

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
_names = st.from_regex(r"[a-z]([a-z0-9]{0,3}(_[a-z])?){0,2}", fullmatch=True)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),  # NaN is printed, but equals nothing
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(allow_nan=False, width=32),
}


def messages(descriptor: Any, depth: int = 2) -> st.SearchStrategy[Any]:
    """Messages of this type, with up to six of their fields set and `depth` messages inside each other."""
    make = message_factory.GetMessageClass(descriptor)
    match descriptor.full_name:
        case "google.protobuf.Timestamp":
            return st.builds(make, seconds=st.integers(-62135596800, 253402300799), nanos=st.integers(0, 999_999_999))
        case "google.protobuf.Duration":
            return st.builds(make, seconds=st.integers(0, 315_575_999_999), nanos=st.integers(0, 999_999_999))
        case "google.protobuf.FieldMask":
            return st.builds(make, paths=st.lists(_names, max_size=3))
        case "google.protobuf.Any":
            return _anys(depth)
        case "google.protobuf.Value":
            return _values(make, depth)
    fields = [field for field in descriptor.fields if depth > 0 or field.message_type is None]

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        message = make()
        for field in draw(st.lists(st.sampled_from(fields), max_size=6, unique=True)) if fields else ():
            _set(draw, message, field, depth)
        return message

    return build()


def _set(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        entries = getattr(message, field.name)
        value = inner.fields_by_name["value"]
        for key in draw(st.lists(_one(inner.fields_by_name["key"], 0), max_size=2)):
            item = draw(_one(value, depth - 1))
            if value.message_type is None:
                entries[key] = item
            else:
                entries[key].CopyFrom(item)
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(_one(field, depth - 1), max_size=3)))
    elif inner is not None:
        getattr(message, field.name).CopyFrom(draw(_one(field, depth - 1)))
    else:
        setattr(message, field.name, draw(_one(field, depth)))


def _one(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=6)
    if field.type == FieldDescriptor.TYPE_STRING:
        return texts
    return _SCALARS[field.cpp_type]


def _values(make: Any, depth: int) -> st.SearchStrategy[Any]:
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    simple: list[st.SearchStrategy[Any]] = [
        st.builds(make, null_value=st.just(0)),
        st.builds(make, number_value=numbers),
        st.builds(make, string_value=texts),
        st.builds(make, bool_value=st.booleans()),
    ]
    if depth > 0:
        struct, values = struct_pb2.Struct.DESCRIPTOR, struct_pb2.ListValue.DESCRIPTOR
        simple += [
            st.builds(make, struct_value=messages(struct, depth - 1)),
            st.builds(make, list_value=messages(values, depth - 1)),
        ]
    return st.one_of(simple)


def _anys(depth: int) -> st.SearchStrategy[Any]:
    def pack(message: Any) -> any_pb2.Any:
        result = any_pb2.Any()
        result.Pack(message, deterministic=True)
        return result

    types: list[Any] = [duration_pb2.Duration, struct_pb2.Value, wrappers_pb2.Int64Value, error_details_pb2.BadRequest]
    return st.one_of([messages(kind.DESCRIPTOR, depth - 1).map(pack) for kind in types] + [st.just(any_pb2.Any())])
