"""Instances, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from grpc_registry import Instance, InvalidInstance, State


@pytest.mark.parametrize(
    "address", ["10.0.0.1:1", "host:65535", "[::1]:50051", "unix:/tmp/socket", "unix:///tmp/socket"]
)
def test_addresses_that_grpc_can_dial_are_taken(address: str) -> None:
    """Host and port, a bracketed IPv6 address, and a socket path are addresses."""
    assert Instance("s", address).address == address


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"service": ""}, "service ''"),
        ({"service": "a/b"}, "service 'a/b'"),
        ({"service": "-a"}, "service '-a'"),
        ({"service": "a" * 129}, "service 'aaa"),
        ({"address": ""}, "address ''"),
        ({"address": "10.0.0.1"}, "address '10.0.0.1'"),
        ({"address": "10.0.0.1:0"}, "address '10.0.0.1:0'"),
        ({"address": "10.0.0.1:65536"}, "address '10.0.0.1:65536'"),
        ({"address": "::1:5"}, "address '::1:5'"),
        ({"address": 5}, "address 5"),
        ({"address": "0.0.0.0:50051"}, "address '0.0.0.0:50051': is where a server listens"),
        ({"address": "[::]:50051"}, "address '[::]:50051': is where a server listens"),
        ({"id": ""}, "instance id ''"),
        ({"id": "a/b"}, "instance id 'a/b'"),
        ({"id": "a b"}, "instance id 'a b'"),
        ({"weight": 0}, "weight 0"),
        ({"weight": 1_000_001}, "weight 1000001"),
        ({"weight": True}, "weight True"),
        ({"weight": 1.5}, "weight 1.5"),
        ({"state": "asleep"}, "state 'asleep'"),
        ({"zone": 1}, "zone 1"),
        ({"metadata": "text"}, "metadata 'text'"),
        ({"metadata": {1: 2}}, "metadata {1: 2}"),
        ({"metadata": {"a": object()}}, "cannot be written as JSON"),
        ({"metadata": {"a": float("nan")}}, "cannot be written as JSON"),
        ({"metadata": {"weight": 1}}, "metadata 'weight': is a field"),
    ],
)
def test_a_field_that_breaks_the_contract_is_named(fields: dict[str, Any], message: str) -> None:
    """An instance that could not be registered cannot be made, and the message says why."""
    with pytest.raises(InvalidInstance) as caught:
        Instance(**{"service": "s", "address": "h:1", **fields})
    assert message in str(caught.value)


def test_the_id_may_be_an_address() -> None:
    """Go's endpoint managers name instances by their addresses, and such names are taken."""
    assert Instance("s", "[::1]:1", id="[::1]:1").id == "[::1]:1"


def test_ids_are_made_where_none_are_given() -> None:
    """Two instances of the same address are two instances."""
    assert Instance("s", "h:1").id != Instance("s", "h:1").id


def test_an_instance_is_a_value() -> None:
    """Instances with equal fields are equal, hash alike, and hold a copy of the metadata that nobody can change."""
    metadata = {"color": "red"}
    one, two = (Instance("s", "h:1", id="i", state=State.DRAINING, metadata=metadata) for _ in range(2))
    metadata["color"] = "blue"
    assert one == two
    assert hash(one) == hash(two)
    assert one.metadata == {"color": "red"}
