"""What a test can do to a memory space."""

from __future__ import annotations

from contextlib import aclosing

import pytest

import grpc_registry
from grpc_registry import Instance, Registry, RegistryUnavailable, Snapshot, Unresolved, memory
from grpc_registry.memory import MemoryRegistry, MemorySpace
from tests.watching import ids, until


def test_a_space_is_known_by_its_name() -> None:
    """All connections to one name share one space; names do not mix."""
    assert memory.space("one") is memory.space("one")
    assert memory.space("one") is not memory.space("two")
    connected = grpc_registry.connect("memory://one")
    assert isinstance(connected, MemoryRegistry)
    assert connected.space is memory.space("one")


async def test_an_instance_of_another_process_can_be_put_and_deleted() -> None:
    """A test registers what it likes without an owner, and takes it away again."""
    space = MemorySpace()
    async with MemoryRegistry(space) as registry, aclosing(registry.watch("product")) as watch:
        space.put(Instance("product", "10.0.0.1:1", id="a"))
        assert ids(await until(watch, lambda _: True)) == ["a"]
        space.delete("product", "a")
        assert ids(await until(watch, lambda _: True)) == []
        with pytest.raises(KeyError):
            space.delete("product", "a")


async def test_a_config_can_be_put_deleted_and_wiped() -> None:
    """A test writes the service config that it likes, valid or not, and takes it away again."""
    space = MemorySpace()
    async with MemoryRegistry(space) as registry, aclosing(registry.watch_config("product")) as watch:
        space.put_config("product", "nonsense")
        assert (await until(watch, lambda _: True)).text == "nonsense"
        space.delete_config("product")
        assert (await until(watch, lambda _: True)).text is None
        with pytest.raises(KeyError):
            space.delete_config("product")
        space.put_config("product", "{}")
        await until(watch, lambda snapshot: snapshot.text == "{}")
        space.wipe()
        wiped = await until(watch, lambda _: True)
        assert (wiped.text, wiped.relisted) == (None, True)


async def test_a_crashed_owner_is_gone_when_its_ttl_is_over_by_the_clock() -> None:
    """Nothing waits for real time: the clock says when a crashed owner's instances expire."""
    times = [0.0, 9.9, 10.0]
    space = MemorySpace(clock=lambda: times.pop(0))
    crashed = MemoryRegistry(space, ttl=10)
    crashed.register(Instance("product", "10.0.0.1:1", id="a"))
    async with MemoryRegistry(space) as registry:
        registry.register(Instance("product", "10.0.0.1:2", id="b"))
        crashed.crash()
        for expected in (["a", "b"], ["b"]):
            space.expire()
            assert [listing.instance.id for listing in await registry.list()] == expected


@pytest.mark.parametrize("loss", [MemorySpace.lose_leases, MemorySpace.wipe])
async def test_owners_come_back_after_a_loss(loss: object) -> None:
    """Lost leases and lost data are put right by owners that live; what nobody owns is gone with a wipe only."""
    space = MemorySpace()
    space.put(Instance("product", "10.0.0.1:9", id="static"))
    async with MemoryRegistry(space) as registry:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await registration.update(weight=7)
        loss(space)  # type: ignore[operator]
        found = {listing.instance.id: listing.instance.weight for listing in await registry.list()}
        assert found == ({"a": 7} if loss is MemorySpace.wipe else {"a": 7, "static": 100})


async def test_a_wipe_is_a_relist() -> None:
    """Readers are told that what they see after a wipe was read anew."""
    space = MemorySpace()
    space.put(Instance("product", "10.0.0.1:1", id="a"))
    async with MemoryRegistry(space) as registry, aclosing(registry.watch("product")) as watch:
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        space.wipe()
        assert await anext(watch) == Snapshot("product", 1, (), relisted=True)


async def test_the_reason_of_an_outage_is_passed_on() -> None:
    """A test chooses what its code under test is told."""
    space = MemorySpace()
    space.go_away("maintenance")
    registry: Registry = MemoryRegistry(space)
    async with registry, aclosing(registry.watch("product")) as watch:
        assert await anext(watch) == Unresolved("product", "maintenance")
        with pytest.raises(RegistryUnavailable, match="maintenance"):
            await registry.list()
        assert repr(registry) == "<MemoryRegistry unreachable, 0 registered>"
