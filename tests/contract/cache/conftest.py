"""The contract of the cache's values holds in memory and in a Valkey."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import pytest

from shop_services.cache.backend import Values
from shop_services.cache.domain import Namespace
from shop_services.cache.memory import MemoryValues
from shop_services.cache.redis import RedisValues

NAMESPACES = [Namespace(name, "lru", 10_000, 64 * 1024 * 1024) for name in ("a", "b")]

BOUND = 30.0  # seconds: a busy machine is not what this is about, and after a second a value would count as none


class Place(ABC):
    """A place that keeps values, and its time."""

    values: Values

    @abstractmethod
    async def restart(self) -> None:
        """End the process that has the values in its hands, and begin another in its place."""

    @abstractmethod
    async def pass_time(self, nanoseconds: int) -> None:
        """Let at least so much time go by."""

    @abstractmethod
    async def close(self) -> None: ...


class Memory(Place):
    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000_000
        self.values = MemoryValues(NAMESPACES, lambda: self.now)

    async def restart(self) -> None:
        self.now += 1_000_000
        self.values = MemoryValues(NAMESPACES, lambda: self.now)

    async def pass_time(self, nanoseconds: int) -> None:
        self.now += nanoseconds

    async def close(self) -> None:
        pass


class Redis(Place):
    def __init__(self, url: str) -> None:
        self.url = url
        self.values: RedisValues = RedisValues(url, ["a", "b"], bound=BOUND)

    async def restart(self) -> None:
        await self.values.close()
        self.values = RedisValues(self.url, ["a", "b"], bound=BOUND)

    async def pass_time(self, nanoseconds: int) -> None:
        await asyncio.sleep(nanoseconds / 1e9)

    async def close(self) -> None:
        await self.values.close()


@pytest.fixture(params=["memory", "redis"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Nothing is kept there yet."""
    made = Memory() if request.param == "memory" else Redis(request.getfixturevalue("redis_url"))
    yield made
    await made.close()


@pytest.fixture
def values(place: Place) -> Values:
    """The values of the place."""
    return place.values
