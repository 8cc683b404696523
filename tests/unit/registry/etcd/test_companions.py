"""What stands beside an instance's key."""

from __future__ import annotations

from dataclasses import replace

import pytest

import grpc_registry
from grpc_registry import GoZero, Instance, InvalidInstance, Kratos, State
from grpc_registry.etcd.companions import Companions

INSTANCE = Instance("product", "10.0.0.1:1", id="a1")
BOTH = Companions((Kratos(), GoZero()))


def test_each_format_has_a_companion_while_the_instance_serves() -> None:
    """There is one a format, and none while the instance drains, for nobody else knows that word."""
    assert BOTH.of(INSTANCE, 5) == {
        b"/microservices/product/a1": Kratos().value(INSTANCE),
        b"product/5": b"10.0.0.1:1",
    }
    assert BOTH.of(replace(INSTANCE, state=State.DRAINING), 5) == {}
    assert Companions().of(INSTANCE, 5) == {}


def test_the_keys_of_all_leases_are_known() -> None:
    """What an earlier lease left is found by its key."""
    assert BOTH.keys("product", "a1", {5, 6}) == {b"/microservices/product/a1", b"product/5", b"product/6"}


def test_companions_are_outdated_by_any_change() -> None:
    """They are told of each change, and of none that they were told of; without formats there is nobody to tell."""
    assert BOTH.outdated(INSTANCE, None)
    assert BOTH.outdated(INSTANCE, replace(INSTANCE, weight=5))
    assert not BOTH.outdated(INSTANCE, INSTANCE)
    assert not Companions().outdated(INSTANCE, None)


def test_an_instance_that_cannot_be_said_is_refused() -> None:
    """A format that has no word for the address, and two instances with one key, are found out before anything runs."""
    with pytest.raises(InvalidInstance, match="no unix sockets"):
        BOTH.check(replace(INSTANCE, address="unix:/tmp/s", state=State.DRAINING), ())
    with pytest.raises(InvalidInstance, match="product/a1 has the key of product/a2"):
        BOTH.check(INSTANCE, [replace(INSTANCE, id="a2")])
    BOTH.check(INSTANCE, [Instance("order", "10.0.0.1:1", id="a1")])


async def test_in_memory_there_is_one_format() -> None:
    """Tests on `memory://` run as they are with a program that writes and reads other formats."""
    async with grpc_registry.connect("memory://", also=["kratos"]) as registry:
        assert registry.in_format("kratos") is registry
        with pytest.raises(ValueError, match="format 'nacos'"):
            registry.in_format("nacos")
