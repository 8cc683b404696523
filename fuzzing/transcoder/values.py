"""What readers of scalars, times, masks, bytes, maps and Any have their doubts about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.0, 1.5, -0.0, 1e300, -1e-300, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63) - 1,
    10**30, "", " ", "0", "-0", "+1", " 1", "1 ", "1_000", "0x10", "\uff11", "1e2", "1e400", "1e-9999", "1.0", "1.5",
    "NaN", "nan", "Infinity", "-Infinity", "inf", "true", "null", "\0", "\ud800", "\udfff\ud800", "é", "\U0010ffff",
    "9" * 400, "9" * 5000, "1e99999", "18446744073709551616", "340282356779733661637539395458142568447",
    "3.4028236e38", "KIND_CAT", "KIND", "NULL_VALUE", "Y", "YQ", "YQ=", "YQ==", "YQ===", "YWI", "Y Q", "Y\nQ=", "_-",
    "+/8=", "-_8=", "=", "====", "YQ==YQ==", "é===", "1s", "1.5s", "-1s", "-0.5s", "1", "s", ".5s", "1.s",
    "1.0000000001s", "315576000000s", "315576000001s", "-315576000000.9s", "1e3s", "2026-01-31T09:30:00Z",
    "2026-01-31T09:30:00.123456789Z", "2026-01-31t09:30:00z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:60Z",
    "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+01:00", "2026-02-30T00:00:00Z",
    "2026-01-31T24:00:00Z", "2026-01-31", "2026-01-31T09:30:00", "2026-01-31T09:30:00+99:99", "-001-01-01T00:00:00Z",
    "a,b", "a.b", "aB", "a_b", "a__b", "a_", "_a", "a_1", "A", "a..b", ".", ",", "a,", "a.b,a", "é", [], {}, [[]],
    [{}], [None], {"": 0}, {"a": None}, {"\ud800": 1}, {"true": 1}, {"1": {}, "01": {}}, {"-0": {}, "0": {}},
    {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"},
    {"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": "x/google.protobuf.Any"}},
    {"@type": "google.protobuf.Value", "value": None}, {"@type": "/google.protobuf.Empty"},
    {"@type": "/google.protobuf.Empty", "value": {}},
    {"@type": "/tests.zoo.v1.Everything", "int32List": [1], "any": {}},
    {"@type": "x/tests.zoo.v1.PatchRequest", "updateMask": "a__b"},
    {"@type": "/google.protobuf.FieldMask", "value": "a_1"}, {"@type": "/no.Such"}, {"@type": ""}, {"@type": 1},
    {"@type": "/é\ud800"}, {"@type": "/google.protobuf.Value", "value": "NaN"},
    {"@type": "/google.protobuf.Timestamp", "value": "x"}, {"@type": "/.a..b"},
    {"@type": "/google.protobuf.Int64Value", "value": "1"}, {"@type": "/google.protobuf.Value"}, {"@type": "/\0"},
)  # fmt: skip

_TEXTS = tuple(value for value in VALUES if isinstance(value, str))
_NUMBERS = tuple(value for value in VALUES if isinstance(value, int | float)) + _TEXTS[:28]
_ENCODED = ("Y", "YQ", "YW", "Y ", "Y\n", "_-", "+/", "-_", "=", "é")
_BASE64 = tuple(value for value in _TEXTS if value.startswith(_ENCODED))
_ANYS = tuple(value for value in VALUES if isinstance(value, dict))
_MASKS = tuple(value for value in _TEXTS if len(value) < 6)
_TIMES = tuple(value for value in _TEXTS if ":" in value or "-0" in value)
_DURATIONS = tuple(value for value in _TEXTS if value.endswith("s"))

BY_KIND: Mapping[int, Sequence[Any]] = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: _BASE64,
    FieldDescriptor.TYPE_BOOL: (True, False, None, "true", "false", 0, 1, "1", ""),
    FieldDescriptor.TYPE_ENUM: ("KIND_CAT", "KIND_DOG", "KIND", "", 1, 2, 77, -1, 1.5, 2**31, "2", None, "NULL_VALUE"),
    FieldDescriptor.TYPE_INT64: _NUMBERS,
    FieldDescriptor.TYPE_DOUBLE: _NUMBERS,
    FieldDescriptor.TYPE_FLOAT: _NUMBERS,
}
"""Values for a field by its type; those of 64-bit integers for all that are not here."""

BY_NAME: Mapping[str, Sequence[Any]] = {
    "google.protobuf.Any": _ANYS,
    "google.protobuf.FieldMask": _MASKS,
    "google.protobuf.Timestamp": _TIMES,
    "google.protobuf.Duration": _DURATIONS,
    "google.protobuf.Struct": _ANYS,
    "google.protobuf.Value": VALUES,
    "google.protobuf.BytesValue": _BASE64,
    "google.protobuf.StringValue": _TEXTS,
    "google.protobuf.Int64Value": _NUMBERS,
    "google.protobuf.DoubleValue": _NUMBERS,
}
"""Values for a field by the name of its message."""
