"""JSON Schemas of messages and their fields, as the transcoder reads and writes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from shop_services.gateway.openapi.comments import Comments
from shop_services.gateway.openapi.constraints import constraints_of, item_constraints, required_fields
from shop_services.gateway.protojson.printer import map_entry
from shop_services.gateway.protojson.wellknown import WRAPPERS

Schema = dict[str, Any]

_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["1.5s"]},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, separated by commas."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": True},
    "google.protobuf.Value": {},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string", "description": "The type of the other fields."}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}
_INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_UINT32 = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_INT32: _INT32,
    FieldDescriptor.CPPTYPE_UINT32: _UINT32,
    FieldDescriptor.CPPTYPE_INT64: {
        "type": "string",
        "format": "int64",
        "pattern": "^-?[0-9]{1,19}$",
        "examples": ["1"],
    },
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_BYTES: Schema = {"type": "string", "contentEncoding": "base64"}
_TEXT_INTEGERS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT64: {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
}
_OF_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "anyOf", "const", "enum", "not"})


class Schemas:
    """Makes schemas, and keeps those of messages and enums as components, under their full names."""

    def __init__(self, comments: Comments) -> None:
        self.components: dict[str, Schema] = {}
        self._comments = comments

    def message(self, descriptor: Descriptor) -> Schema:
        """The schema of a message: a reference to its component, unless its JSON is a form of its own."""
        name = descriptor.full_name
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        if name in WRAPPERS:
            return self._one(descriptor.fields_by_name["value"])
        if name not in self.components:
            self.components[name] = {}  # before its fields, which may be of this same type
            self.components[name] = self.object(descriptor)
        return self.reference(descriptor)

    def reference(self, descriptor: Descriptor) -> Schema:
        """A reference to the component of a message."""
        return {"$ref": f"#/components/schemas/{descriptor.full_name}"}

    def object(self, descriptor: Descriptor, without: Collection[str] = ()) -> Schema:
        """The schema of a message in full, but for some of its fields."""
        fields = [field for field in descriptor.fields if field.name not in without]
        required = required_fields(descriptor)
        schema: Schema = {"type": "object", "additionalProperties": False}
        schema |= _described(self._comments.of(descriptor.full_name))
        schema["properties"] = {field.json_name: self.field(field) for field in fields}
        if needed := [field.json_name for field in fields if field.name in required]:
            schema["required"] = needed
        return schema

    def field(self, field: FieldDescriptor, *, in_text: bool = False) -> Schema:
        """The schema of a field with its rules; `in_text` as it stands in a path or a query."""
        constraints = constraints_of(field)
        if (entry := map_entry(field)) is not None:
            values = self._one(entry.fields_by_name["value"])
            schema: Schema = {"type": "object", "additionalProperties": values}
            keywords = constraints.keywords
        elif field.is_repeated:
            items = item_constraints(field)
            item = self._one(field, in_text=in_text)
            item |= _fitting(items.keywords, item)
            schema = {"type": "array", "items": item | _described(" ".join(items.notes))}
            keywords = constraints.keywords
        else:
            schema = self._one(field, in_text=in_text)
            keywords = _fitting(constraints.keywords, schema)
        comment = self._comments.of(field.full_name) or schema.get("description", "")
        return schema | keywords | _described("\n\n".join(filter(None, (comment, " ".join(constraints.notes)))))

    def _one(self, field: FieldDescriptor, *, in_text: bool = False) -> Schema:
        """The schema of one value of a field, without its rules."""
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return dict(_BYTES)
        return dict((in_text and _TEXT_INTEGERS.get(field.cpp_type)) or _SCALARS[field.cpp_type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name == "google.protobuf.NullValue":
            return {"type": "null"}
        name = enum.full_name
        if name not in self.components:
            values = [(value.name, self._comments.of(f"{name}.{value.name}")) for value in enum.values]
            lines = [f"- `{value}`: {' '.join(text.split())}" for value, text in values if text]
            description = "\n\n".join(filter(None, (self._comments.of(name), "\n".join(lines))))
            self.components[name] = {"type": "string", "enum": [value for value, _ in values]} | _described(description)
        return {"$ref": f"#/components/schemas/{name}"}


def _fitting(keywords: Schema, schema: Schema) -> Schema:
    """Those keywords that mean something for `schema`: rules on numbers do not for an int64, whose JSON is a string."""
    if schema.get("format") in ("int64", "uint64") and schema["type"] == "string":
        return {name: value for name, value in keywords.items() if name not in _OF_NUMBERS}
    return keywords


def _described(text: str) -> Schema:
    return {"description": text} if text else {}
