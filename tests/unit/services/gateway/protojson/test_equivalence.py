"""What is printed and read here, compared with what protobuf's own `json_format` prints and reads."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_services.gateway import protojson
from tests.unit.services.gateway import zoo
from tests.unit.services.gateway.protojson.messages import messages

EVERYTHING = zoo.descriptor("Everything")
NAMES = {field.json_name: field.name for field in EVERYTHING.fields}
everything = messages(EVERYTHING, depth=3)
read = protojson.message_reader(EVERYTHING)
print_ = protojson.message_printer(EVERYTHING)

slow = settings(
    max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


@slow
@given(everything)
def test_it_is_printed_as_json_format_prints_it(message: Any) -> None:
    """Every message prints as the same JSON."""
    expected = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    assert json.loads(protojson.dumps(print_(message))) == json.loads(json.dumps(expected))


@slow
@given(everything)
def test_what_is_printed_is_read_back(message: Any) -> None:
    """Printing and reading give the same message."""
    copy = zoo.message("Everything")
    read(protojson.loads(protojson.dumps(print_(message))), copy, 100)
    assert copy == message


@slow
@given(everything, st.booleans())
def test_what_json_format_prints_is_read(message: Any, proto_names: bool) -> None:
    """The JSON of another writer is read, with either kind of names."""
    text = json_format.MessageToJson(message, preserving_proto_field_name=proto_names)
    copy = zoo.message("Everything")
    read(protojson.loads(text.encode()), copy, 100)
    assert copy == message


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**65), 2**65),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from(
            [
                "1",
                "-1",
                "1.0",
                "1e2",
                "1.5",
                "NaN",
                "Infinity",
                "KIND_CAT",
                "YQ==",
                "1s",
                "a.b",
                "true",
                "2026-01-31T09:30:00Z",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["name", "1", "true", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def more_lenient(name: str, value: Any) -> bool:
    """Where this takes more: a mask or the number of an enum in another spelling, and null for a list."""
    return name in ("mask", "kind", "kindList", "kindByBool") or value is None


@slow
@given(st.sampled_from(list(NAMES)), JSON)
def test_any_json_is_read_alike_or_refused(name: str, value: Any) -> None:
    """Whatever JSON a field is given, it is read as json_format reads it, or refused with the name of the field."""
    mine, other = zoo.message("Everything"), zoo.message("Everything")
    try:
        read({name: value}, mine, 100)
    except protojson.FieldError as error:
        assert error.path.startswith(NAMES[name])  # noqa: PT017 - a refusal is one of the two good ends
        return
    try:
        json_format.ParseDict({name: value}, other)
    except (json_format.ParseError, AttributeError):  # an AttributeError is its way to refuse null for a list of Values
        assert more_lenient(name, value)
    else:
        assert mine == other
