from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway import protojson
from tests.unit.services.gateway import zoo

DURATION = "must be a duration in seconds such as 1.5s, from -315576000000s to 315576000000s"

read_everything = protojson.message_reader(zoo.descriptor("Everything"))


def read(json: Any) -> Any:
    message = zoo.message("Everything")
    read_everything(json, message, protojson.reader.MAX_DEPTH)
    return message


@pytest.mark.parametrize(
    ("json", "field", "value"),
    [
        ({"stringValue": "é\u0000"}, "string_value", "é\0"),
        ({"string_value": "x"}, "string_value", "x"),
        ({"other-name": "x"}, "renamed", "x"),
        ({"renamed": "x"}, "renamed", "x"),
        ({"int64Value": "9223372036854775807"}, "int64_value", 2**63 - 1),
        ({"int64Value": -5}, "int64_value", -5),
        ({"int32Value": 1.0}, "int32_value", 1),
        ({"int32Value": "1e3"}, "int32_value", 1000),
        ({"int64Value": "1.0"}, "int64_value", 1),
        ({"uint64Value": "18446744073709551615"}, "uint64_value", 2**64 - 1),
        ({"doubleValue": "-1.5e3"}, "double_value", -1500.0),
        ({"doubleValue": "Infinity"}, "double_value", float("inf")),
        ({"floatValue": 1}, "float_value", 1.0),
        ({"bytesValue": "_-8"}, "bytes_value", b"\xff\xef"),
        ({"bytesValue": "/+8="}, "bytes_value", b"\xff\xef"),
        ({"kind": "KIND_DOG"}, "kind", 2),
        ({"kind": 1}, "kind", 1),
        ({"kind": 77}, "kind", 77),
        ({"kind": "2"}, "kind", 2),
        ({"stringList": None, "child": None, "int32Value": None}, "string_list", []),
    ],
)
def test_every_spelling_of_a_value_is_read(json: Any, field: str, value: Any) -> None:
    """Both names of a field, and all forms that proto3 JSON has for a value, are taken; null is the same as nothing."""
    assert getattr(read(json), field) == value


def test_presence_is_kept() -> None:
    """A field with presence that is given its default is set, and one that is null is not."""
    message = read({"optionalString": "", "optionalInt64": None, "child": {}, "value": None, "stringWrapper": ""})
    assert message.HasField("optional_string")
    assert not message.HasField("optional_int64")
    assert message.HasField("child")
    assert message.value.WhichOneof("kind") == "null_value"
    assert message.HasField("string_wrapper")


@pytest.mark.parametrize(
    ("json", "path", "description"),
    [
        ([], "", "must be an object"),
        ({"nope": 1}, "nope", "unknown field"),
        ({"child": {"child": {"nope": 1}}}, "child.child.nope", "unknown field"),
        ({"children": [{}, {"number": "x"}]}, "children[1].number", "must be an integer"),
        ({"childByNumber": {"7": {"name": 1}}}, 'child_by_number["7"].name', "must be a string"),
        ({"childByNumber": {"x": {}}}, 'child_by_number["x"]', "must be an integer"),
        ({"kindByBool": {"1": "KIND_CAT"}}, 'kind_by_bool["1"]', "must be true or false"),
        ({"textByText": {"a": None}}, 'text_by_text["a"]', "must be a string"),
        ({"struct": {"a": {"b": ["\ud800"]}}}, "struct.a.b[0]", "has half of a surrogate pair"),
        ({"stringValue": "\ud800"}, "string_value", "has half of a surrogate pair"),
        ({"stringValue": 1}, "string_value", "must be a string"),
        ({"boolValue": "true"}, "bool_value", "must be true or false"),
        ({"boolValue": 1}, "bool_value", "must be true or false"),
        ({"int32Value": 2**31}, "int32_value", "is out of range: int32 is from -2147483648 to 2147483647"),
        ({"int32Value": 1.5}, "int32_value", "must be an integer"),
        ({"int32Value": True}, "int32_value", "must be an integer"),
        ({"int32Value": " 1"}, "int32_value", "must be an integer"),
        ({"int64Value": "1e99999"}, "int64_value", "must be an integer"),
        ({"int64Value": "9" * 5000}, "int64_value", "must be an integer"),
        ({"uint32Value": -1}, "uint32_value", "is out of range: uint32 is from 0 to 4294967295"),
        ({"floatValue": 3.5e38}, "float_value", "is out of range"),
        ({"doubleValue": 10**400}, "double_value", "is out of range"),
        ({"doubleValue": "1e999"}, "double_value", "is out of range"),
        ({"doubleValue": "inf"}, "double_value", "must be a number"),
        ({"bytesValue": "a b"}, "bytes_value", "must be base64"),
        ({"bytesValue": 1}, "bytes_value", "must be a string of base64"),
        ({"kind": "CAT"}, "kind", "must be one of KIND_UNSPECIFIED, KIND_CAT, KIND_DOG"),
        ({"kind": 2**31}, "kind", "must be one of KIND_UNSPECIFIED, KIND_CAT, KIND_DOG"),
        ({"stringList": "a"}, "string_list", "must be a list"),
        ({"stringList": [None]}, "string_list[0]", "must be a string"),
        ({"child": "x"}, "child", "must be an object"),
        ({"textByText": []}, "text_by_text", "must be an object"),
        ({"chosenText": "a", "chosenNumber": 1}, "chosen_number", "excludes chosen_text, which is given too"),
        ({"stringValue": "a", "string_value": "a"}, "string_value", "is given twice"),
        ({"timestamp": "yesterday"}, "timestamp", "must be a time such as 2026-01-31T09:30:00Z"),
        ({"timestamp": 5}, "timestamp", "must be a string"),
        ({"duration": "5"}, "duration", DURATION),
        ({"duration": "999999999999s"}, "duration", DURATION),
        ({"duration": "999999999999999s"}, "duration", DURATION),
        ({"duration": "-315576000001s"}, "duration", DURATION),
        ({"mask": "a,,b"}, "mask", "must be the names of fields separated by commas; '' is none"),
        ({"null": 1}, "null", "must be null"),
        ({"any": {"x": 1}}, "any", "must have an '@type'"),
        ({"any": {"@type": "x/y.Z"}}, "any", "has an unknown '@type': 'x/y.Z'"),
        ({"any": {"@type": "/e9\ud800"}}, "any", "has an '@type' that has half of a surrogate pair"),
        ({"any": {"@type": "\ud800/tests.zoo.v1.Animal"}}, "any", "has an '@type' that has half of a surrogate pair"),
        ({"any": {"@type": "x/google.protobuf.Int64Value", "value": "x"}}, "any", "must be an integer"),
        ({"any": {"@type": "x/tests.zoo.v1.Animal", "legs": "x"}}, "any.legs", "must be an integer"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(json: Any, path: str, description: str) -> None:
    """The error has the path of the field, in the names of the .proto file, and says what would be right."""
    with pytest.raises(protojson.FieldError) as caught:
        read(json)
    assert (caught.value.path, caught.value.description) == (path, description)


NESTS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda inner: {"everything": inner}, {}),
    (lambda inner: {"childByNumber": {"1": {}}, "everything": inner}, {"childByNumber": {"1": {"child": {}}}}),
    (lambda inner: {"a": inner}, {}),
    (lambda inner: [inner], []),
]
# Found by the fuzzer: what has no messages in it lies one deeper than the last that is counted.
NESTS += [
    (lambda inner: {"everything": inner}, leaf)
    for leaf in (
        {"timestamp": "1970-01-01T00:00:00Z"},
        {"textByText": {"a": "b"}},
        {"stringWrapper": "x"},
        {"mask": "a"},
    )
]


@pytest.mark.parametrize("number", range(len(NESTS)))
def test_nesting_goes_as_deep_as_a_decoder_of_the_binary_form_goes(number: int) -> None:
    """What is read can always be decoded again, and what is refused is near what could not be."""
    nest, json = NESTS[number]
    for levels in range(150):
        try:
            message = read({"value": json} if number in (2, 3) else json)
        except protojson.FieldError as error:
            assert error.description == "is nested too deep"  # noqa: PT017 - at which level it begins is what is tested
            assert levels >= 30
            return
        assert type(message).FromString(message.SerializeToString()) == message
        json = nest(json)
    pytest.fail("there is no limit")


def test_masks_are_read_in_both_spellings() -> None:
    """lowerCamelCase is proto3 JSON's; the spelling of the .proto file is taken as well."""
    assert list(read({"mask": "displayName,price.currency_code"}).mask.paths) == ["display_name", "price.currency_code"]
    assert list(read({"mask": ""}).mask.paths) == []


@pytest.mark.parametrize(
    ("text", "description"),
    [
        (b"", "is not valid JSON: Expecting value at line 1, column 1"),
        (b'{"a": 1,}', "is not valid JSON: Illegal trailing comma before end of object at line 1, column 8"),
        (b'{\n"a" 1}', "is not valid JSON: Expecting ':' delimiter at line 2, column 5"),
        (b"{} x", "is not valid JSON: Extra data at line 1, column 4"),
        (b"[NaN]", "is not valid JSON: NaN is no number there (as a string it is)"),
        (b'{"a": 1, "a": 2}', "is not valid JSON: 'a' appears twice in an object"),
        (b'"\xff"', "is not valid JSON: not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "is not valid JSON: Expecting value at line 1, column 1"),
        (b"1" * 5000, "is not valid JSON: a number has too many digits"),
        (b"[" * 100_000, "is nested too deep"),
    ],
)
def test_text_that_is_no_json_is_refused_with_the_position(text: bytes, description: str) -> None:
    """The error says where the text stops being JSON."""
    with pytest.raises(protojson.FieldError) as caught:
        protojson.loads(text)
    assert caught.value.path == ""
    if not description.startswith("is not valid JSON: Illegal"):  # Python words this one differently in each version
        assert caught.value.description == description


@given(st.binary())
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    """No bytes make the reader fail in another way than by its own error."""
    with suppress(protojson.FieldError):
        protojson.loads(data)
