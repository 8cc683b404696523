"""What a registration promises, over memory and over etcd."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from grpc_registry import (
    Instance,
    InvalidInstance,
    Listing,
    Registry,
    RegistryClosed,
    State,
)
from tests.contract.registry.conftest import World
from tests.watching import ids, until


async def test_a_registered_instance_is_known_to_others(registry: Registry, other: Registry) -> None:
    """Others see the instance with every field, and the TTL of its lease."""
    instance = Instance("product", "10.0.0.1:1", weight=7, zone="a", version="1", host="h", metadata={"color": "red"})
    registration = registry.register(instance)
    await registration.wait_registered()
    assert registration.registered
    assert repr(registration).endswith(f"product/{instance.id} registered>")
    assert registration.instance == instance
    assert await other.list() == [Listing(instance, lease_ttl=10)]


async def test_a_closed_registration_is_gone_at_once(registry: Registry, other: Registry) -> None:
    """Others learn of the removal without waiting for a lease to expire; closing twice is fine; neighbours stay."""
    first, second = (registry.register(Instance("product", f"10.0.0.1:{n}", id=f"i{n}")) for n in (1, 2))
    async with aclosing(other.watch("product")) as watch:
        await until(watch, lambda snapshot: ids(snapshot) == ["i1", "i2"])
        await first.close()
        await first.close()
        assert not first.registered
        await until(watch, lambda snapshot: ids(snapshot) == ["i2"], seconds=8)  # and not after the 10 s of a lease
        await second.close()
        await until(watch, lambda snapshot: ids(snapshot) == [], seconds=8)


async def test_closing_the_registry_removes_what_it_registered(world: World, other: Registry) -> None:
    """Leaving the block is enough to leave the registry."""
    async with world.connect() as registry:
        registrations = [registry.register(Instance("product", "10.0.0.1:1")) for _ in range(3)]
        await asyncio.gather(*(registration.wait_registered() for registration in registrations))
    assert await other.list() == []


async def test_a_registration_can_follow_the_last_one(registry: Registry, other: Registry) -> None:
    """A registry without registrations left can be used to register again, under the same id too."""
    for weight in (1, 2):
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a", weight=weight))
        await registration.wait_registered()
        assert [listing.instance.weight for listing in await other.list()] == [weight]
        await registration.close()


async def test_an_update_changes_the_instance_in_place(registry: Registry, other: Registry) -> None:
    """The change is there when `update` returns, others see it, and the instance was never gone."""
    registration = registry.register(Instance("product", "10.0.0.1:1", id="a", metadata={"color": "red"}))
    async with aclosing(other.watch("product")) as watch:
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        await registration.update(weight=5)
        await registration.update(state=State.DRAINING)
        expected = Instance("product", "10.0.0.1:1", id="a", weight=5, state=State.DRAINING, metadata={"color": "red"})
        assert registration.instance == expected
        assert [listing.instance for listing in await other.list()] == [expected]
        while (snapshot := await until(watch, lambda _: True)).instances != (expected,):
            assert ids(snapshot) == ["a"]


async def test_a_bad_update_changes_nothing(registry: Registry) -> None:
    """A weight that breaks the contract is refused and forgotten."""
    registration = registry.register(Instance("product", "10.0.0.1:1", weight=5))
    await registration.wait_registered()
    with pytest.raises(InvalidInstance, match="weight 0"):
        await registration.update(weight=0)
    assert registration.instance.weight == 5


async def test_an_edit_from_outside_is_adopted(registry: Registry, other: Registry) -> None:
    """The owner knows what an operator changed, and its own later changes keep it."""
    registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
    await registration.wait_registered()
    await other.edit("product", "a", weight=7)
    await registration.update(state=State.DRAINING)
    assert registration.instance.weight == 7
    assert [listing.instance.weight for listing in await other.list()] == [7]


async def test_an_instance_deleted_by_hand_is_put_again(world: World, registry: Registry, other: Registry) -> None:
    """An owner that lives notices that its instance was removed, with its edits, and puts it back."""
    registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
    await registration.update(weight=7)
    await world.delete_by_hand("product", "a")
    async with aclosing(other.watch("product")) as watch:
        await until(watch, lambda snapshot: [instance.weight for instance in snapshot.instances] == [7])
    await asyncio.wait_for(registration.wait_registered(), 30)


async def test_one_id_is_registered_once(registry: Registry) -> None:
    """A second registration of the same service and id by one registry is a mistake, and is refused."""
    registry.register(Instance("product", "10.0.0.1:1", id="a"))
    with pytest.raises(InvalidInstance, match="product/a is registered"):
        registry.register(Instance("product", "10.0.0.1:2", id="a"))
    registry.register(Instance("order", "10.0.0.1:2", id="a"))


async def test_what_is_closed_says_so(world: World) -> None:
    """After the end, every use is a `RegistryClosed`, and a waiter does not wait for ever."""
    async with world.connect() as registry:
        registration = registry.register(Instance("product", "10.0.0.1:1"))
        await registration.close()
        with pytest.raises(RegistryClosed):
            await registration.update(weight=1)
        with pytest.raises(RegistryClosed):
            await registration.wait_registered()
    await registry.close()
    with pytest.raises(RegistryClosed):
        registry.register(Instance("product", "10.0.0.1:1"))
    with pytest.raises(RegistryClosed):
        registry.watch("product")
    with pytest.raises(RegistryClosed):
        registry.watch_all()
    with pytest.raises(RegistryClosed):
        await registry.list()
    with pytest.raises(RegistryClosed):
        await registry.edit("product", "a", weight=1)
    with pytest.raises(RegistryClosed):
        async with registry:
            pass
