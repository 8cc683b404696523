from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2

from shop_services.gateway import protojson
from tests.unit.services.gateway import zoo

print_everything = protojson.message_printer(zoo.descriptor("Everything"))


def printed(**fields: Any) -> Any:
    return print_everything(zoo.message("Everything", **fields))


def test_defaults_are_printed_and_what_is_not_set_is_left_out() -> None:
    """Fields without presence are always there, in the order of the .proto file; those with presence only if set."""
    json = printed()
    assert json["stringValue"] == ""
    assert json["int64Value"] == "0"
    assert json["kind"] == "KIND_UNSPECIFIED"
    assert json["stringList"] == []
    assert json["textByText"] == {}
    assert json["other-name"] == ""
    assert {"optionalString", "child", "chosenText", "timestamp", "stringWrapper"}.isdisjoint(json)
    assert list(json)[:3] == ["stringValue", "bytesValue", "boolValue"]


@pytest.mark.parametrize(
    ("field", "value", "json"),
    [
        ("int64_value", -(2**63), str(-(2**63))),
        ("uint64_value", 2**64 - 1, str(2**64 - 1)),
        ("bytes_value", b"\xff\xef", "/+8="),
        ("float_value", 0.1, 0.1),
        ("float_value", 16777216.0, 16777216),
        ("double_value", 1.0, 1),
        ("double_value", 1e300, 1e300),
        ("double_value", float("nan"), "NaN"),
        ("double_value", float("-inf"), "-Infinity"),
        ("kind", 2, "KIND_DOG"),
        ("kind", 99, 99),
        ("optional_string", "", ""),
    ],
)
def test_scalars(field: str, value: Any, json: Any) -> None:
    """Each scalar has the JSON that proto3 gives it."""
    name = next(each.json_name for each in zoo.descriptor("Everything").fields if each.name == field)
    result = printed(**{field: value})[name]
    assert result == json
    assert type(result) is type(json)


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1769851800, 0, "2026-01-31T09:30:00Z"),
        (1769851800, 120_000_000, "2026-01-31T09:30:00.120Z"),
        (1769851800, 1_000, "2026-01-31T09:30:00.000001Z"),
        (1769851800, 1, "2026-01-31T09:30:00.000000001Z"),
        (-1, 999_000_000, "1969-12-31T23:59:59.999Z"),
        (-62135596800, 0, "0001-01-01T00:00:00Z"),
        (253402300799, 0, "9999-12-31T23:59:59Z"),
    ],
)
def test_times(seconds: int, nanos: int, text: str) -> None:
    """A Timestamp is RFC 3339 in UTC, with 0, 3, 6 or 9 digits of a second."""
    assert printed(timestamp={"seconds": seconds, "nanos": nanos})["timestamp"] == text


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp": {"seconds": 253402300800}},
        {"timestamp": {"nanos": -1}},
        {"duration": {"seconds": 10**15}},
        {"value": {"number_value": float("nan")}},
        {"mask": {"paths": ["notSnake"]}},
    ],
)
def test_what_json_cannot_say_is_an_error(fields: Any) -> None:
    """A message that has no JSON raises an error, and is not printed as something else."""
    with pytest.raises(protojson.Unprintable):
        printed(**fields)


def test_an_any_of_an_unknown_type_keeps_its_bytes() -> None:
    """A detail that this process does not know reaches the client as its type and base64."""
    detail = any_pb2.Any(type_url="type.googleapis.com/nobody.Knows", value=b"\x01\x02")
    assert printed(any=detail)["any"] == {"@type": "type.googleapis.com/nobody.Knows", "value": "AQI="}


def test_an_any_with_broken_content_keeps_its_bytes() -> None:
    """Bytes that are not of the type, and content that has no JSON, are not lost either."""
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")
    assert printed(any=broken)["any"]["value"] == "/w=="
    endless = any_pb2.Any()
    endless.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=10**15)))
    assert printed(any=endless)["any"].keys() == {"@type", "value"}


def test_json_is_short_and_not_escaped() -> None:
    """Text is UTF-8 without needless escapes or spaces."""
    assert protojson.dumps({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()
