"""Which fields the JSON of a message has: the FieldMask that its sender had in mind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor

from shop_services.gateway.fields import fields_of

# Messages of these packages are values, such as a Timestamp or a Money, that are replaced as a whole: an amount in the
# currency that was there before is no price that anyone meant.
_VALUES = ("google.protobuf.", "google.type.")


def given_paths(json: Mapping[str, Any], descriptor: Descriptor) -> Iterator[str]:
    """The paths of the fields that `json`, which a reader has taken, gives; into objects, but not into lists."""
    fields = fields_of(descriptor)
    for name, value in json.items():
        field = fields[name]
        inner = field.message_type
        if inner is None or field.is_repeated or inner.full_name.startswith(_VALUES) or not value:
            yield field.name
        else:
            for path in given_paths(value, inner):
                yield f"{field.name}.{path}"
