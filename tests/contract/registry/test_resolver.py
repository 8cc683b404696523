"""What a resolver promises, over memory and over etcd."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from grpc_registry import ALL_SERVICES, Instance, InvalidInstance, Registry, Resolution, Snapshot
from tests.contract.registry.conftest import World
from tests.elapsed import measured
from tests.watching import ids, until


async def test_an_unknown_service_has_an_empty_snapshot(registry: Registry) -> None:
    """A service without instances is known to have none; it is not an error and nothing is waited for."""
    async with aclosing(registry.watch("nobody")) as watch:
        first = await asyncio.wait_for(anext(watch), 30)
    assert isinstance(first, Snapshot)
    assert (first.service, first.instances, first.stale, first.relisted) == ("nobody", (), False, False)


async def test_every_change_arrives(registry: Registry, other: Registry) -> None:
    """Appearance, edit and removal each make a new snapshot, ordered by id, at a growing revision."""
    async with aclosing(other.watch("product")) as watch:
        snapshots = [await until(watch, lambda snapshot: ids(snapshot) == [])]
        b = registry.register(Instance("product", "10.0.0.1:2", id="b"))
        snapshots.append(await until(watch, lambda snapshot: ids(snapshot) == ["b"]))
        registry.register(Instance("product", "10.0.0.1:1", id="a"))
        snapshots.append(await until(watch, lambda snapshot: ids(snapshot) == ["a", "b"]))
        await b.update(weight=3)
        snapshots.append(await until(watch, lambda snapshot: snapshot.instances[1].weight == 3))
        await b.close()
        snapshots.append(await until(watch, lambda snapshot: ids(snapshot) == ["a"]))
    revisions = [snapshot.revision for snapshot in snapshots]
    assert revisions == sorted(set(revisions))
    assert not any(snapshot.relisted or snapshot.stale for snapshot in snapshots)


async def test_services_do_not_mix(registry: Registry, other: Registry) -> None:
    """A watch shows its service alone, also where another's name begins with its name."""
    for service in ("product", "product2", "order"):
        await registry.register(Instance(service, "10.0.0.1:1", id=service)).wait_registered()
    async with aclosing(other.watch("product")) as watch:
        assert ids(await until(watch, lambda _: True)) == ["product"]


async def test_all_services_can_be_watched_at_once(registry: Registry, other: Registry) -> None:
    """A watch of everything shows every service, ordered by service and id."""
    async with aclosing(other.watch_all()) as watch:
        assert (await until(watch, lambda snapshot: ids(snapshot) == [])).service == ALL_SERVICES
        for service in ("product", "order"):
            registry.register(Instance(service, "10.0.0.1:1", id=f"{service}-1"))
        await until(watch, lambda snapshot: ids(snapshot) == ["order-1", "product-1"])


async def test_readers_of_one_service_are_independent(registry: Registry, other: Registry) -> None:
    """A reader that leaves, or one that never reads, disturbs no other; a late one sees the present at once."""
    async with aclosing(other.watch("product")) as idle, aclosing(other.watch("product")) as first:
        await anext(idle)
        await until(first, lambda snapshot: ids(snapshot) == [])
        async with aclosing(other.watch("product")) as second:
            await until(second, lambda snapshot: ids(snapshot) == [])
        registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await until(first, lambda snapshot: ids(snapshot) == ["a"])
        async with aclosing(other.watch("product")) as late, measured() as elapsed:
            latest = await asyncio.wait_for(anext(late), 30)
            assert elapsed.seconds < 1
            assert isinstance(latest, Snapshot)
            assert ids(latest) == ["a"]
        assert ids(await until(idle, lambda _: True)) == ["a"]


async def test_a_service_can_be_watched_again(registry: Registry) -> None:
    """After the last reader left, a new one starts from the present."""
    for number in (1, 2):
        await registry.register(Instance("product", "10.0.0.1:1", id=f"i{number}")).wait_registered()
        async with aclosing(registry.watch("product")) as watch:
            assert len((await until(watch, lambda _: True)).instances) == number


async def test_closing_the_registry_ends_the_watches(world: World) -> None:
    """A reader's loop ends without an error when the registry is closed."""
    seen: list[Resolution] = []
    started = asyncio.Event()

    async def read(registry: Registry) -> None:
        async for resolution in registry.watch("product"):
            seen.append(resolution)
            started.set()

    async with world.connect() as registry:
        reader = asyncio.create_task(read(registry))
        await asyncio.wait_for(started.wait(), 30)
    await asyncio.wait_for(reader, 30)
    assert len(seen) == 1


async def test_a_name_that_cannot_be_a_service_is_refused(registry: Registry) -> None:
    """A slash in the name would read other keys; it is refused before anything is asked."""
    with pytest.raises(InvalidInstance, match="service 'a/b'"):
        registry.watch("a/b")
    with pytest.raises(InvalidInstance, match="service 'a/b'"):
        await registry.list("a/b")
