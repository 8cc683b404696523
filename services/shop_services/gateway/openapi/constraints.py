"""Protovalidate's rules as the keywords of JSON Schema, where there are such keywords; in words where there are none.

What JSON Schema cannot say exactly is left wider, never narrower, than the rule: a client that keeps to the schema may
still be told INVALID_ARGUMENT, but no value that the service takes is ruled out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

Keywords = dict[str, Any]

_STRING_FORMATS = {
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "uuid": "uuid",
}
_LIMITS = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_IN_WORDS = {"gte": "at least", "lte": "at most", "gt": "more than", "lt": "less than"}


@dataclass(slots=True)
class Constraints:
    """What a field's rules come to: keywords for its schema, and sentences for its description."""

    keywords: Keywords = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def constraints_of(descriptor: FieldDescriptor) -> Constraints:
    """The constraints on `descriptor`, a list or map as a whole included."""
    return _constraints(_rules(descriptor), descriptor)


def item_constraints(descriptor: FieldDescriptor) -> Constraints:
    """The constraints on each item of `descriptor`, which is repeated (and no map)."""
    return _constraints(_rules(descriptor).repeated.items, descriptor)


def required_fields(descriptor: Descriptor) -> frozenset[str]:
    """The names of the fields without which a message is refused: those that an empty one is blamed for.

    Asking the validator covers every kind of rule, CEL included.
    """
    empty = message_factory.GetMessageClass(descriptor)()
    paths = [violation.proto.field for violation in protovalidate.collect_violations(empty)]
    return frozenset(path.elements[0].field_name for path in paths if path and len(path.elements) == 1) & frozenset(
        descriptor.fields_by_name
    )


def _rules(descriptor: FieldDescriptor) -> Any:
    return descriptor.GetOptions().Extensions[validate_pb2.field]


def _constraints(rules: Any, descriptor: FieldDescriptor) -> Constraints:
    result = Constraints()
    if rules.ignore != validate_pb2.IGNORE_ALWAYS:
        kind = rules.WhichOneof("type")
        if kind is not None:
            _TRANSLATORS.get(kind, _number)(getattr(rules, kind), descriptor, result)
        if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
            _allow_zero(result.keywords)
        result.notes += [f"{_sentence(rule.message)}." for rule in rules.cel if rule.message]
    return result


def _allow_zero(keywords: Keywords) -> None:
    """Let the zero value pass, which the rules are ignored for."""
    keywords.pop("minLength", None)
    keywords.pop("minItems", None)
    keywords.pop("minProperties", None)
    if "pattern" in keywords:
        keywords["pattern"] = f"^$|{keywords['pattern']}"
    if keywords.get("minimum", 0) > 0 or keywords.get("exclusiveMinimum", -1) >= 0:
        least = {name: keywords.pop(name) for name in ("minimum", "exclusiveMinimum") if name in keywords}
        keywords["anyOf"] = [{"const": 0}, least]


def _string(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    keywords = result.keywords
    if rules.HasField("len"):
        keywords["minLength"] = keywords["maxLength"] = rules.len
    if rules.min_len:
        keywords["minLength"] = rules.min_len
    if rules.HasField("max_len"):
        keywords["maxLength"] = rules.max_len
    # A character takes one to four bytes.
    if rules.min_bytes:
        keywords.setdefault("minLength", -(-rules.min_bytes // 4))
    if rules.HasField("max_bytes"):
        keywords.setdefault("maxLength", rules.max_bytes)
        result.notes.append(f"At most {rules.max_bytes:,} bytes as UTF-8.")
    if rules.pattern:
        keywords["pattern"] = rules.pattern
    elif rules.prefix:
        keywords["pattern"] = f"^{re.escape(rules.prefix)}"
    elif rules.suffix:
        keywords["pattern"] = f"{re.escape(rules.suffix)}$"
    known = rules.WhichOneof("well_known")
    if known in _STRING_FORMATS:
        keywords["format"] = _STRING_FORMATS[known]
    _choices(rules, keywords)


def _bytes(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    # Base64 makes four characters of three bytes; the padding at the end may be left out.
    if rules.min_len:
        result.keywords["minLength"] = -(-rules.min_len * 4 // 3)
    if rules.HasField("max_len"):
        result.keywords["maxLength"] = -(-rules.max_len // 3) * 4
        result.notes.append(f"At most {rules.max_len:,} bytes.")


def _number(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    big = descriptor.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    limits = {name: getattr(rules, name) for name in _LIMITS if rules.HasField(name)}
    if big and limits:  # its JSON is a string, which has no minimum
        words = [f"{_IN_WORDS[name]} {value}" for name, value in limits.items()]
        result.notes.append(f"{_sentence(' and '.join(words))}.")
    for name, value in limits.items():
        result.keywords[_LIMITS[name]] = value
    _choices(rules, result.keywords)


def _choices(rules: Any, keywords: Keywords) -> None:
    if rules.HasField("const"):
        keywords["const"] = rules.const
    choices = list(getattr(rules, "in"))
    if choices:
        keywords["enum"] = choices
    if rules.not_in:
        keywords["not"] = {"enum": list(rules.not_in)}


def _enum(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    names = {} if descriptor.enum_type is None else descriptor.enum_type.values_by_number
    if rules.HasField("const"):
        result.keywords["const"] = names[rules.const].name
    if getattr(rules, "in"):
        result.keywords["enum"] = [names[number].name for number in getattr(rules, "in")]
    if rules.not_in:
        result.keywords["not"] = {"enum": [names[number].name for number in rules.not_in]}


def _repeated(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    if rules.min_items:
        result.keywords["minItems"] = rules.min_items
    if rules.HasField("max_items"):
        result.keywords["maxItems"] = rules.max_items
    if rules.unique:
        result.keywords["uniqueItems"] = True


def _map(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    if rules.min_pairs:
        result.keywords["minProperties"] = rules.min_pairs
    if rules.HasField("max_pairs"):
        result.keywords["maxProperties"] = rules.max_pairs


def _duration(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    words = [f"{_IN_WORDS[name]} {getattr(rules, name).ToJsonString()}" for name in _LIMITS if rules.HasField(name)]
    if words:
        result.notes.append(f"{_sentence(' and '.join(words))}.")


def _nothing(rules: Any, descriptor: FieldDescriptor, result: Constraints) -> None:
    """No keyword says what these rules do."""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


_TRANSLATORS: dict[str, Callable[[Any, FieldDescriptor, Constraints], None]] = {
    "string": _string,
    "bytes": _bytes,
    "enum": _enum,
    "repeated": _repeated,
    "map": _map,
    "duration": _duration,
    "bool": lambda rules, descriptor, result: _const(rules, result),
    "any": _nothing,
    "field_mask": _nothing,
    "timestamp": _nothing,
}


def _const(rules: Any, result: Constraints) -> None:
    if rules.HasField("const"):
        result.keywords["const"] = rules.const
