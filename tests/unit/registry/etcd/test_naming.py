"""The value of an instance's key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_registry import Instance, InvalidInstance, State
from grpc_registry.etcd.naming import decode, edit, encode
from grpc_registry.instance import RESERVED_METADATA

texts = st.text(max_size=10)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda children: st.one_of(st.lists(children, max_size=3), st.dictionaries(texts, children, max_size=3)),
    max_leaves=5,
)
instances = st.builds(
    Instance,
    service=st.just("product"),
    address=st.sampled_from(["10.0.0.1:50051", "[::1]:1", "unix:/tmp/s"]),
    id=st.just("i"),
    weight=st.integers(1, 1_000_000),
    state=st.sampled_from(State),
    zone=texts,
    version=texts,
    host=texts,
    metadata=st.dictionaries(texts.filter(lambda name: name not in RESERVED_METADATA), json_values, max_size=3),
)


def test_the_value_is_the_json_of_the_contract_to_the_byte() -> None:
    """Fields stand in the order that the design fixes, and nothing is between them."""
    instance = Instance("product", "10.0.0.1:50051", zone="a", version="1.4.0", host="h1", metadata={"color": "red"})
    assert encode(instance) == (
        b'{"Op":0,"Addr":"10.0.0.1:50051","Metadata":'
        b'{"weight":100,"state":"serving","zone":"a","version":"1.4.0","host":"h1","color":"red"}}'
    )


@given(instances)
def test_what_is_written_is_read_back(instance: Instance) -> None:
    """Every instance survives encoding and decoding, its own metadata included, without a problem."""
    decoded = decode("product", "i", encode(instance))
    assert decoded.instance == instance
    assert decoded.problems == ()


@pytest.mark.parametrize(
    "value",
    [
        b'{"Op":0,"Addr":"10.0.0.1:1","Metadata":null}',
        b'{"Addr":"10.0.0.1:1"}',
        b'{"Op":0,"Addr":"10.0.0.1:1","Metadata":{}}',
        b' {"Metadata": {}, "Addr": "10.0.0.1:1", "Attributes": 1} ',
    ],
)
def test_an_instance_of_another_client_has_defaults(value: bytes) -> None:
    """What etcd's Go naming writes without metadata is an instance of default weight, and no problem."""
    decoded = decode("product", "i", value)
    assert decoded.instance == Instance("product", "10.0.0.1:1", id="i")
    assert decoded.problems == ()


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ('"text"', "Metadata is not an object but text"),
        ("[1]", "Metadata is not an object but a list"),
        ("7", "Metadata is not an object but a number"),
        ('{"weight":0}', "weight 0"),
        ('{"weight":"5"}', "weight '5'"),
        ('{"weight":null}', "weight None"),
        ('{"state":"asleep"}', "state 'asleep'"),
        ('{"state":[]}', "state []"),
        ('{"zone":1}', "zone is not text but a number"),
        ('{"host":null}', "host is not text but null"),
        ('{"version":{}}', "version is not text but an object"),
    ],
)
def test_a_broken_field_takes_its_default_and_is_a_problem(metadata: str, problem: str) -> None:
    """An instance with metadata of another meaning is found with defaults, never hidden, and the field is named."""
    decoded = decode("product", "i", f'{{"Addr":"10.0.0.1:1","Metadata":{metadata}}}'.encode())
    assert decoded.instance == Instance("product", "10.0.0.1:1", id="i")
    assert [problem in text for text in decoded.problems] == [True]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"Addr":""}',
        b'{"Addr":5}',
        b'{"Addr":"10.0.0.1"}',
        b'{"Addr":"10.0.0.1:1","Metadata":{"a":NaN}}',
        b'{"Addr":"10.0.0.1:1","Metadata":{"a":1e999}}',
        b"[" * 100_000,
    ],
)
def test_a_value_without_a_usable_address_is_refused(value: bytes) -> None:
    """Garbage raises the one exception that readers skip, and nothing else."""
    with pytest.raises(InvalidInstance):
        decode("product", "i", value)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    """Whatever stands in a key, decoding and editing give an instance or `InvalidInstance`."""
    for read in (lambda: decode("product", "i", value), lambda: edit(value, weight=1)):
        try:
            read()
        except InvalidInstance:
            continue


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (
            b'{"Op":0,"Addr":"h:1","Metadata":{"weight":100,"x":[1]},"Extra":{"b":1}}',
            {"weight": 5},
            b'{"Op":0,"Addr":"h:1","Metadata":{"weight":5,"x":[1]},"Extra":{"b":1}}',
        ),
        (
            b'{"Op":0,"Addr":"h:1","Metadata":null}',
            {"state": State.DRAINING},
            b'{"Op":0,"Addr":"h:1","Metadata":{"state":"draining"}}',
        ),
        (b'{"Addr":"h:1"}', {"weight": 5}, b'{"Addr":"h:1","Metadata":{"weight":5}}'),
    ],
)
def test_an_edit_keeps_everything_else(before: bytes, change: dict[str, Any], after: bytes) -> None:
    """Unknown fields on both levels stay as they are."""
    assert edit(before, **change) == after


@pytest.mark.parametrize(
    ("value", "change", "message"),
    [
        (b'{"Addr":"h:1","Metadata":"text"}', {"weight": 5}, "not an object but text"),
        (b'{"Addr":"h:1"}', {"weight": 0}, "weight 0"),
        (b'{"Addr":"h:1","x":1e999}', {"weight": 5}, "number that JSON cannot hold"),
        (b"{", {"weight": 5}, "not JSON"),
        (b"{}", {"weight": 5}, "address ''"),
    ],
)
def test_what_cannot_be_edited_is_refused(value: bytes, change: dict[str, Any], message: str) -> None:
    """An edit never makes a broken value, and never replaces what it does not understand."""
    with pytest.raises(InvalidInstance, match=message):
        edit(value, **change)
