"""Loads in progress, one a key, that readers join instead of asking the source as well."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Generic

from shop_services.caching.copies import Copy, V


class Flight(Generic[V]):
    """One key's load. Whoever waits may be cancelled without harm to it or to the others."""

    __slots__ = ("_landed", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self._landed: asyncio.Future[Copy[V]] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Copy[V]:
        """What it brings. Raises what the source raised."""
        return await asyncio.shield(self._landed)

    def land(self, copy: Copy[V]) -> None:
        if not self._landed.done():
            self._landed.set_result(copy)

    def fail(self, error: BaseException) -> None:
        if not self._landed.done():
            self._landed.set_exception(error)
            self._landed.exception()  # asyncio need not warn if nobody waits any more


class Flights(Generic[V]):
    """The flights that may be joined. Pure state: whoever begins a flight lands it, or fails it."""

    def __init__(self) -> None:
        self._flying: dict[str, Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def __contains__(self, key: str) -> bool:
        return key in self._flying

    def get(self, key: str) -> Flight[V] | None:
        return self._flying.get(key)

    def begin(self, keys: Iterable[str]) -> dict[str, Flight[V]]:
        """A new flight for each of these keys, none of which has one."""
        begun: dict[str, Flight[V]] = {key: Flight(key) for key in keys}
        self._flying.update(begun)
        return begun

    def land(self, flight: Flight[V], copy: Copy[V]) -> bool:
        """Give the copy to all who wait. Returns whether it may be kept too: nobody has cut the flight."""
        flight.land(copy)
        return self._end(flight)

    def fail(self, flight: Flight[V], error: BaseException) -> None:
        """Give the error to all who wait."""
        flight.fail(error)
        self._end(flight)

    def cut(self, key: str) -> None:
        """What is on its way may be older than what is known by now: nobody joins it any more, and nobody keeps it."""
        self._flying.pop(key, None)

    def _end(self, flight: Flight[V]) -> bool:
        if self._flying.get(flight.key) is not flight:
            return False
        del self._flying[flight.key]
        return True
