from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway.binding import Binder
from shop_services.gateway.protojson import FieldError
from shop_services.gateway.rules import rules_of
from tests.unit.services.gateway import zoo

RULES = {f"{rule.method} {rule.template}": rule for rule in rules_of(zoo.service())}
POST = Binder(RULES["POST /v1/echo"])
GET = Binder(RULES["GET /v1/echo"])
TYPED = Binder(RULES["GET /v1/echo/{int64_value}/{kind}/{bool_value}"])
PUT = Binder(RULES["PUT /v1/echo/{child.name=shelves/*/books/**}"])
LIST = Binder(RULES["POST /v1/echo/{string_value}:list"])
TIME = Binder(RULES["* /v1/any/{timestamp}"])
PATCH = Binder(RULES["PATCH /v1/animals/{animal.name}"])


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def refused(binder: Binder, captured: tuple[str, ...] = (), query: str = "", content: bytes = b"") -> tuple[str, str]:
    with pytest.raises(FieldError) as caught:
        binder.bind(captured, query, content)
    return caught.value.path, caught.value.description


def test_a_whole_body_is_the_message() -> None:
    """`body: "*"` reads every field from the body, and an empty body is an empty message."""
    assert POST.bind((), "", body({"stringValue": "x", "child": {"number": "7"}})).child.number == 7
    assert POST.bind((), "", b"") == zoo.message("Everything")


def test_a_path_is_read_by_type() -> None:
    """Captured text becomes a number, an enum, a bool or a well-known type, as its field wants it."""
    message = TYPED.bind(("-5", "KIND_DOG", "true"), "", b"")
    assert (message.int64_value, message.kind, message.bool_value) == (-5, 2, True)
    assert TYPED.bind(("0", "2", "false"), "", b"").kind == 2
    assert TIME.bind(("2026-01-31T09:30:00Z",), "", b"").timestamp.seconds == 1769851800
    assert refused(TYPED, ("x", "KIND_DOG", "true")) == ("int64_value", "must be an integer")
    assert refused(TYPED, ("1", "KIND_DOG", "yes")) == ("bool_value", "must be true or false")


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("string_value=a", "string_value", "a"),
        ("stringValue=a", "string_value", "a"),
        ("other-name=a", "renamed", "a"),
        ("stringValue=a+b%2Bc%20d", "string_value", "a b+c d"),
        ("stringValue=", "string_value", ""),
        ("stringValue", "string_value", ""),
        ("stringValue=a=b", "string_value", "a=b"),
        ("&&stringValue=a&", "string_value", "a"),
        ("boolValue=true", "bool_value", True),
        ("int64Value=-9223372036854775808", "int64_value", -(2**63)),
        ("uint32Value=7", "uint32_value", 7),
        ("doubleValue=1.5e3", "double_value", 1500.0),
        ("bytesValue=_-8", "bytes_value", b"\xff\xef"),
        ("kind=KIND_CAT", "kind", 1),
        ("kind=1", "kind", 1),
        ("kind=42", "kind", 42),
        ("stringList=a&string_list=b&stringList=", "string_list", ["a", "b", ""]),
        ("kindList=KIND_CAT&kindList=2", "kind_list", [1, 2]),
        ("optionalInt64=0", "optional_int64", 0),
    ],
)
def test_a_query_sets_fields(query: str, field: str, value: Any) -> None:
    """Parameters are fields by either name, decoded as a form, repeated where the field is."""
    assert getattr(GET.bind((), query, b""), field) == value


def test_a_query_reaches_nested_fields_and_well_known_types() -> None:
    """A dot leads into a message; a Timestamp, a Duration, a FieldMask and a wrapper are one text each."""
    message = GET.bind(
        (),
        "child.child.name=x&child.number=3&timestamp=2026-01-31T09:30:00%2B01:00&duration=1.5s&mask=displayName,a.b_c"
        "&stringWrapper=&int64Wrapper=5&boolWrapper=false&timestamps=2026-01-31T09:30:00Z&money.currencyCode=EUR",
        b"",
    )
    assert message.child.child.name == "x"
    assert message.child.number == 3
    assert message.timestamp.seconds == 1769851800 - 3600
    assert message.duration.ToMilliseconds() == 1500
    assert list(message.mask.paths) == ["display_name", "a.b_c"]
    assert message.HasField("string_wrapper")
    assert message.int64_wrapper.value == 5
    assert message.HasField("bool_wrapper")
    assert len(message.timestamps) == 1
    assert message.money.currency_code == "EUR"


@pytest.mark.parametrize(
    ("query", "path", "description"),
    [
        ("nope=1", "nope", "unknown query parameter"),
        ("child.nope=1", "child.nope", "unknown query parameter"),
        ("stringValue.x=1", "stringValue.x", "unknown query parameter"),
        ("children.name=1", "children.name", "unknown query parameter"),
        (".=1", ".", "unknown query parameter"),
        ("=1", "''", "unknown query parameter"),
        ("everything." * 20 + "stringValue=1", "everything." * 20 + "stringValue", "unknown query parameter"),
        ("child=x", "child", "cannot be a query parameter: it is a message, a map or a list of messages"),
        ("children=x", "children", "cannot be a query parameter: it is a message, a map or a list of messages"),
        ("textByText=x", "textByText", "cannot be a query parameter: it is a message, a map or a list of messages"),
        ("struct=x", "struct", "cannot be a query parameter: it is a message, a map or a list of messages"),
        ("int32Value=", "int32_value", "must be an integer"),
        ("int32Value=1&int32_value=2", "int32_value", "is given twice"),
        ("child.number=x", "child.number", "must be an integer"),
        ("boolValue=1", "bool_value", "must be true or false"),
        ("kind=CAT", "kind", "must be one of KIND_UNSPECIFIED, KIND_CAT, KIND_DOG"),
        ("timestamp=now", "timestamp", "must be a time such as 2026-01-31T09:30:00Z"),
        ("int64Wrapper=x", "int64_wrapper", "must be an integer"),
        ("chosenText=a&chosenNumber=1", "chosen_number", "excludes chosen_text, which is given too"),
        ("chosenText=a&chosenChild.name=b", "chosen_child.name", "excludes chosen_text, which is given too"),
        ("stringValue=%zz", "stringValue", "'%zz' is not a percent-encoded character"),
        ("stringValue=%ff", "stringValue", "the percent-encoded characters are not UTF-8"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, path: str, description: str) -> None:
    """What is not a parameter, or does not fit, is refused by its name."""
    assert refused(GET, (), query) == (path, description)


def test_where_a_field_belongs_is_told() -> None:
    """A field of the path or of the body is no query parameter, and a method without a body takes none."""
    assert refused(TYPED, ("1", "1", "true"), "int64Value=2") == (
        "int64Value",
        "is given by the path, and cannot be a query parameter too",
    )
    assert refused(PATCH, ("n",), "animal.legs=4") == (
        "animal.legs",
        "belongs in the body, and cannot be a query parameter",
    )
    assert refused(POST, (), "stringValue=x") == (
        "stringValue",
        "unknown query parameter: this method takes all fields in its body",
    )
    assert refused(GET, (), "", b"{}")[1].startswith("must be empty")


def test_one_field_can_be_the_body() -> None:
    """`body: "field"` reads that field, a list included; the rest stays in the query."""
    assert list(LIST.bind(("x",), "kind=KIND_CAT", b"[1, 2]").int32_list) == [1, 2]
    assert refused(LIST, ("x",), "", b"[1, true]") == ("int32_list[1]", "must be an integer")
    assert refused(LIST, ("x",), "", b"{}") == ("int32_list", "must be a list")
    message = PUT.bind(("shelves/1/books/2/3",), "", body({"number": 5}))
    assert (message.child.name, message.child.number) == ("shelves/1/books/2/3", 5)


def test_a_path_and_a_body_must_agree() -> None:
    """A client may send back the whole resource with its name, but not with another name."""
    same = PUT.bind(("shelves/1/books/2",), "", body({"name": "shelves/1/books/2", "number": 1}))
    assert same.child.name == "shelves/1/books/2"
    path, description = refused(PUT, ("shelves/1/books/2",), "", body({"name": "other"}))
    assert path == "child.name"
    assert description == "the body has another value than the path, which says 'shelves/1/books/2'"
    assert PUT.bind(("shelves/1/books/2",), "", body({"name": ""})).child.name == "shelves/1/books/2"


def test_malformed_json_is_told_with_its_position() -> None:
    """The error is about the body as a whole, and says where."""
    assert refused(POST, (), "", b'{"a":') == ("", "is not valid JSON: Expecting value at line 1, column 6")
    assert refused(POST, (), "", b"[]") == ("", "must be an object")
    assert refused(PATCH, ("n",), "", b"null") == ("animal", "must be an object")


@pytest.mark.parametrize(
    ("json_body", "paths"),
    [
        ({"legs": 4, "nickName": "x"}, ["legs", "nick_name"]),
        ({"nick_name": None}, ["nick_name"]),
        ({"child": {"number": 1, "child": {"name": "x"}}}, ["child.number", "child.child.name"]),
        ({"child": {}}, ["child"]),
        ({"tags": [], "labels": {"a": "b"}}, ["tags", "labels"]),
        ({"price": {"units": "1"}, "nap": "1s", "profile": {"a": {"b": 1}}}, ["price", "nap", "profile"]),
        ({"name": "n", "etag": "e", "legs": 1}, ["legs"]),
        ({}, []),
    ],
)
def test_a_patch_changes_what_its_body_has(json_body: Any, paths: list[str]) -> None:
    """Without a mask, it is derived from the JSON: into messages, but not into values, lists or maps.

    What the path binds and the etag are not changes.
    """
    assert list(PATCH.bind(("n",), "", body(json_body)).update_mask.paths) == paths


def test_a_given_mask_is_kept() -> None:
    """Only an empty mask is filled."""
    assert list(PATCH.bind(("n",), "updateMask=legs", body({"nickName": "x"})).update_mask.paths) == ["legs"]


TEXTS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    FieldDescriptor.CPPTYPE_STRING: st.text(alphabet=st.characters(codec="utf-8")),
}
SIMPLE = [
    field
    for field in zoo.descriptor("Everything").fields
    if field.cpp_type in TEXTS and field.type != field.TYPE_BYTES and not field.is_repeated
]


@given(st.data())
def test_any_value_survives_the_query(data: st.DataObject) -> None:
    """Whatever text or number a field can hold comes through a query as it was."""
    field = data.draw(st.sampled_from(SIMPLE))
    value = data.draw(TEXTS[field.cpp_type])
    message = GET.bind((), f"{field.name}={quote(str(value), safe='')}", b"")
    assert getattr(message, field.name) == value


@given(st.text(alphabet=st.characters(codec="utf-8")), st.binary())
def test_any_input_is_bound_or_refused(query: str, content: bytes) -> None:
    """No query and no body make binding fail in another way than by its own error."""
    for binder, captured in ((GET, ()), (POST, ()), (PATCH, ("n",))):
        try:
            message = binder.bind(captured, query, content)
        except FieldError:
            continue
        assert message.IsInitialized()
