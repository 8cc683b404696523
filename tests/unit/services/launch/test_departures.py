"""Registrations of dead processes, with the registry in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from grpc_registry import Instance, RegistryUnavailable
from grpc_registry.memory import MemoryRegistry, MemorySpace
from shop_services.launch.departures import Departures
from tests.watching import ids, until

ADDRESS = "127.0.0.1:5001"


@pytest.fixture
def space() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
async def departures(space: MemorySpace) -> AsyncIterator[Departures]:
    """Departures that follow the registry."""
    departures = Departures()
    async with MemoryRegistry(space) as registry:
        running = asyncio.create_task(departures.run(registry))
        yield departures
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def registered(space: MemorySpace, *expected: str) -> None:
    """Returns when exactly these ids are registered."""
    async with MemoryRegistry(space) as registry, aclosing(registry.watch("user")) as watch:
        await until(watch, lambda snapshot: ids(snapshot) == list(expected), seconds=30)


async def knows(departures: Departures, address: str) -> None:
    """Returns when the news of a registration at `address` has arrived."""
    async with asyncio.timeout(30):
        while address not in departures._known:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)


async def test_removes_who_died_ahead_of_its_lease(space: MemorySpace, departures: Departures) -> None:
    """A process that ended is taken out at once; its neighbours stay, and so does what is started in its place."""
    async with MemoryRegistry(space) as victim, MemoryRegistry(space) as others:
        victim.register(Instance("user", ADDRESS, id="a"))
        others.register(Instance("user", "127.0.0.1:5002", id="b"))
        await knows(departures, ADDRESS)
        victim.crash()
        departures.note(ADDRESS)
        others.register(Instance("user", ADDRESS, id="c"))
        await registered(space, "b", "c")


async def test_waits_for_a_registry_that_is_away(
    space: MemorySpace, departures: Departures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A death during an outage is told as soon as the registry answers again."""
    remove, refused = MemoryRegistry.remove, asyncio.Event()

    async def removing(registry: MemoryRegistry, service: str, instance_id: str) -> None:
        try:
            await remove(registry, service, instance_id)
        except RegistryUnavailable:
            refused.set()
            raise

    monkeypatch.setattr(MemoryRegistry, "remove", removing)
    async with MemoryRegistry(space) as victim:
        victim.register(Instance("user", ADDRESS, id="a"))
        await knows(departures, ADDRESS)
        space.go_away()
        victim.crash()
        departures.note(ADDRESS)
        async with asyncio.timeout(20):
            await refused.wait()
        space.come_back()
        await registered(space)


async def test_knows_nothing_of_an_address_that_nobody_registered(space: MemorySpace, departures: Departures) -> None:
    """A process that ended before it was registered leaves nothing to remove."""
    async with MemoryRegistry(space) as other:
        other.register(Instance("user", ADDRESS, id="a"))
        await knows(departures, ADDRESS)
        departures.note("127.0.0.1:5009")
        await asyncio.sleep(0.05)
        await registered(space, "a")
