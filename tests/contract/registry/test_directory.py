"""What an operator may do, over memory and over etcd."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from grpc_registry import Instance, InvalidInstance, Registry, State, UnknownInstance
from tests.contract.registry.conftest import World
from tests.watching import ids, until


async def test_a_list_is_ordered_and_can_be_narrowed(registry: Registry, other: Registry) -> None:
    """All instances come by service and id; with a service, only its own."""
    for service, instance_id in (("product", "b"), ("order", "z"), ("product", "a")):
        await registry.register(Instance(service, "10.0.0.1:1", id=instance_id)).wait_registered()
    everything = [(listing.instance.service, listing.instance.id) for listing in await other.list()]
    assert everything == [("order", "z"), ("product", "a"), ("product", "b")]
    assert [listing.instance.id for listing in await other.list("product")] == ["a", "b"]
    assert await other.list("nobody") == []


async def test_an_edit_changes_what_it_names_and_nothing_else(registry: Registry, other: Registry) -> None:
    """Weight and state change one by one; lease, metadata and the rest stay."""
    instance = Instance("product", "10.0.0.1:1", id="a", zone="z", metadata={"color": "red"})
    await registry.register(instance).wait_registered()
    await other.edit("product", "a", weight=7)
    edited = await other.edit("product", "a", state=State.DRAINING)
    expected = Instance(
        "product", "10.0.0.1:1", id="a", zone="z", metadata={"color": "red"}, weight=7, state=State.DRAINING
    )
    assert edited == expected
    assert [(listing.instance, listing.lease_ttl) for listing in await other.list()] == [(expected, 10)]
    assert (await other.edit("product", "a", state=State.SERVING)).state is State.SERVING


async def test_an_unknown_instance_is_not_made(registry: Registry) -> None:
    """Editing what is not there is an `UnknownInstance`, and does not register it."""
    with pytest.raises(UnknownInstance, match="no instance 'a' of 'product'"):
        await registry.edit("product", "a", weight=7)
    assert await registry.list() == []


async def test_a_bad_edit_changes_nothing(registry: Registry, other: Registry) -> None:
    """A value that breaks the contract is refused with its reason, and the instance stays as it was."""
    registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
    await registration.wait_registered()
    no_state: Any = "asleep"
    for change in (partial(other.edit, "product", "a"), registration.update):
        with pytest.raises(InvalidInstance, match="state 'asleep': 'serving' or 'draining'"):
            await change(state=no_state)
    with pytest.raises(InvalidInstance, match="weight 0"):
        await other.edit("product", "a", weight=0)
    assert [listing.instance.weight for listing in await other.list()] == [100]


async def test_a_dead_instance_can_be_removed(world: World, registry: Registry) -> None:
    """An instance that no process keeps is gone when `remove` returns; removing it again does nothing."""
    await world.put_by_hand(Instance("product", "10.0.0.1:1", id="a"))
    await world.put_by_hand(Instance("product", "10.0.0.1:2", id="b"))
    await registry.remove("product", "a")
    await registry.remove("product", "a")
    assert [listing.instance.id for listing in await registry.list()] == ["b"]


async def test_a_living_instance_that_was_removed_comes_back(registry: Registry, other: Registry) -> None:
    """`remove` is no way to end an instance whose process lives: its owner puts it back."""
    await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
    await other.remove("product", "a")
    async with aclosing(other.watch("product")) as resolutions:
        await until(resolutions, lambda snapshot: ids(snapshot) == ["a"])
