"""The outage contract, over memory and over an etcd that is killed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from grpc_registry import Instance, RegistryUnavailable, Snapshot, State, Unresolved
from tests.contract.registry.conftest import World
from tests.elapsed import measured
from tests.watching import ids, until


async def test_the_last_snapshot_is_kept_and_marked(fragile_world: World) -> None:
    """While the registry is away its last word stays, stale, for old and new readers; its return is a relist."""
    async with fragile_world.connect() as owner, fragile_world.connect() as reader:
        await owner.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        async with aclosing(reader.watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == ["a"])
            await fragile_world.go_away()
            assert ids(await until(watch, lambda snapshot: snapshot.stale)) == ["a"]
            async with aclosing(reader.watch("product")) as late, measured() as elapsed:
                assert ids(await until(late, lambda snapshot: snapshot.stale)) == ["a"]
                assert elapsed.seconds < 1
            await fragile_world.come_back()
            back = await until(watch, lambda snapshot: not snapshot.stale)
            assert ids(back) == ["a"]
            assert back.relisted


async def test_what_was_never_known_is_unresolved(fragile_world: World) -> None:
    """A first watch during an outage says that it knows nothing and why; when the registry is there it is resolved."""
    await fragile_world.go_away()
    async with fragile_world.connect() as reader, aclosing(reader.watch("product")) as watch:
        first = await asyncio.wait_for(anext(watch), 30)
        assert isinstance(first, Unresolved)
        assert first.service == "product"
        assert first.reason
        await fragile_world.come_back()
        snapshot = await until(watch, lambda _: True)
        assert snapshot == Snapshot("product", snapshot.revision, ())


async def test_registrations_and_changes_wait_for_the_return(fragile_world: World) -> None:
    """What is registered or changed during an outage is kept, and written when the registry is back."""
    async with fragile_world.connect(patience=1) as owner, fragile_world.connect() as reader:
        early = owner.register(Instance("product", "10.0.0.1:1", id="early"))
        await early.wait_registered()
        await fragile_world.go_away()
        with pytest.raises(RegistryUnavailable):
            await early.update(state=State.DRAINING)
        assert early.instance.state is State.DRAINING
        late = owner.register(Instance("product", "10.0.0.1:2", id="late"))
        assert not late.registered
        await fragile_world.come_back()
        await asyncio.wait_for(late.wait_registered(), 30)
        drained = {"early": State.DRAINING, "late": State.SERVING}
        async with aclosing(reader.watch("product")) as watch:
            await until(watch, lambda snapshot: {one.id: one.state for one in snapshot.instances} == drained)


async def test_an_operator_is_told(fragile_world: World) -> None:
    """Listing and editing fail within their deadline with `RegistryUnavailable`."""
    async with fragile_world.connect(patience=1) as operator:
        await fragile_world.go_away()
        async with asyncio.timeout(10):
            with pytest.raises(RegistryUnavailable):
                await operator.list()
            with pytest.raises(RegistryUnavailable):
                await operator.edit("product", "a", weight=1)


async def test_closing_does_not_wait_for_ever(fragile_world: World) -> None:
    """A process can leave while the registry is away, in bounded time and without an error."""
    async with asyncio.timeout(25):
        async with fragile_world.connect(patience=1) as owner, fragile_world.connect(patience=1) as reader:
            await owner.register(Instance("product", "10.0.0.1:1")).wait_registered()
            async with aclosing(reader.watch("product")) as watch:
                await anext(watch)
            await fragile_world.go_away()
