"""Takes the registrations of dead processes out of the registry, ahead of their leases.

A lease tells of a death when its time is over, and an etcd that was away gives every lease its full time again. Whoever
saw the process end knows at once.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import NoReturn

from grpc_registry import Registry, RegistryError, RegistryUnavailable, Snapshot

_RETRY = 0.5
_MOST = 1000
"""How many registrations may wait for a registry that is away; beyond that, the oldest are left to their leases."""

Key = tuple[str, str]
"""A service and the id of an instance of it."""


class Departures:
    """Remembers who is registered at which address, so that a death at an address says whose it was.

    What has been started again at the same address is another instance, with an id of its own, and stays.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[Key]] = {}
        self._dead: dict[Key, None] = {}
        self._news = asyncio.Event()

    def note(self, address: str) -> None:
        """The process that served at `address` has ended. Call it before another is started there."""
        self._dead |= dict.fromkeys(self._known.get(address, ()))
        for key in list(self._dead)[:-_MOST]:
            del self._dead[key]
        self._news.set()

    async def run(self, registry: Registry) -> NoReturn:
        """Follow the registry, and remove who was noted, as soon as it answers; until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(registry))
            while True:
                await self._news.wait()
                self._news.clear()
                while self._dead:
                    await self._remove(registry, next(iter(self._dead)))

    async def _follow(self, registry: Registry) -> None:
        async with aclosing(registry.watch_all()) as resolutions:
            async for resolution in resolutions:
                if isinstance(resolution, Snapshot):
                    self._known = {}
                    for instance in resolution.instances:
                        self._known.setdefault(instance.address, []).append((instance.service, instance.id))

    async def _remove(self, registry: Registry, key: Key) -> None:
        try:
            await registry.remove(*key)
        except RegistryUnavailable:
            await asyncio.sleep(_RETRY)
            return
        except RegistryError:  # it does not let us: its lease will
            pass
        self._dead.pop(key, None)
