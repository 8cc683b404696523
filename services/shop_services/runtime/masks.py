"""Partial updates: which fields of a message a FieldMask changes."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from shop_services.runtime.errors import InvalidArgument


def changed_fields(mask: FieldMask, message: Message, mutable: Collection[str]) -> frozenset[str]:
    """The fields of `message` to change: those that `mask` names, or, if it is empty, all mutable ones that are set.

    Raises:
        InvalidArgument: the mask names a field that does not exist or cannot be changed, or nothing is to be changed;
            the violation's field is `update_mask`.
    """
    if violations := [("update_mask", why) for path in mask.paths if (why := _wrong(path, message, mutable))]:
        raise InvalidArgument(violations)
    set_fields = {field.name for field, _ in message.ListFields()}
    names = frozenset(mask.paths) or frozenset(set_fields.intersection(mutable))
    if not names:
        raise InvalidArgument.of("update_mask", f"names nothing to change: any of {_listed(mutable)}")
    return names


def _wrong(path: str, message: Message, mutable: Collection[str]) -> str:
    descriptor = message.DESCRIPTOR
    if path in mutable:
        return ""
    first, _, rest = path.partition(".")
    if first not in descriptor.fields_by_name:
        return f"{path!r} is not a field of {descriptor.name}"
    if rest:
        return f"{path!r} is inside of {first!r}, which can only be changed as a whole"
    return f"{path!r} cannot be changed; these can: {_listed(mutable)}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
