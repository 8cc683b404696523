"""The caches that the contract runs over: memory by each policy, a real Valkey, and the cache service.

Another kind joins as a subclass of `World`, with its name in `WORLDS`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from shop_services.caching.backend import Backend
from shop_services.caching.bounded import Policy
from shop_services.caching.memory import MemoryCache
from shop_services.caching.redis import RedisCache
from shop_services.caching.service import ServiceCache
from tests.integration.cache.cluster import Cluster


class World(ABC):
    """Makes empty caches of one kind, and lets time pass for them."""

    shared = True
    """Whether two caches of one namespace have the same values."""

    any_text = True
    """Whether keys may hold NUL, and there are namespaces beside `contract`, `one`, `two`, `one2`, `on` and `many`."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.request = request
        self.made: list[Backend] = []

    def cache(self, **options: Any) -> Backend:
        """A cache, by the options that all kinds have: namespace, serializer, plugins, ttl, max_value."""
        made = self._make(**options)
        self.made.append(made)
        return made

    async def open(self) -> None:  # noqa: B027 - most need nothing
        """Start what the caches need."""

    @abstractmethod
    def _make(self, **options: Any) -> Backend: ...

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return when this time is over for the caches. Tests ask for little: it may be real."""

    async def close(self) -> None:
        for cache in self.made:
            await cache.close()


class MemoryWorld(World):
    shared = False
    policy: Policy = "lru"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.now = 1000.0

    def _make(self, **options: Any) -> Backend:
        return MemoryCache(self.policy, max_entries=1000, clock=lambda: self.now, **options)

    async def wait(self, seconds: float) -> None:
        self.now += seconds


class LfuWorld(MemoryWorld):
    policy = "lfu"


class FifoWorld(MemoryWorld):
    policy = "fifo"


class BytesWorld(MemoryWorld):
    """Memory with a limit of bytes, and namespaces: what a cache does then is no less."""

    def _make(self, **options: Any) -> Backend:
        def size_of(key: str, value: Any) -> int:
            return len(key) + len(repr(value))

        defaults = {"namespace": "contract"}
        return MemoryCache(
            max_entries=1000, max_bytes=8 << 20, size_of=size_of, clock=lambda: self.now, **defaults | options
        )


class RedisWorld(World):
    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.url: str = request.getfixturevalue("redis_url")

    def _make(self, **options: Any) -> Backend:
        defaults: dict[str, Any] = {"namespace": "contract", "timeout": 5}  # a busy machine is not what this is about
        return RedisCache(self.url, **defaults | options)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds + 0.01)  # the server's clock counts milliseconds


class ServiceWorld(World):
    """Two instances of the cache service, which share the keys."""

    any_text = False

    async def open(self) -> None:
        self.stack = AsyncExitStack()
        namespaces = ";".join(f"{name}=lru" for name in ("contract", "one", "two", "one2", "on", "many", "probes"))
        cluster = await self.stack.enter_async_context(Cluster(cache_namespaces=namespaces))
        for name in "ab":
            await cluster.join(name)
        self.channel = await self.stack.enter_async_context(cluster.channel())
        self.credentials = cluster.credentials

    def _make(self, **options: Any) -> Backend:
        defaults: dict[str, Any] = {"namespace": "contract", "timeout": 5, "credentials": self.credentials}
        return ServiceCache(self.channel, **defaults | options)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        await super().close()
        await self.stack.aclose()


WORLDS: Mapping[str, Callable[[pytest.FixtureRequest], World]] = {
    "lru": MemoryWorld,
    "lfu": LfuWorld,
    "fifo": FifoWorld,
    "bytes": BytesWorld,
    "redis": RedisWorld,
    "service": ServiceWorld,
}


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """One kind of cache."""
    made = WORLDS[request.param](request)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def cache(world: World) -> Backend:
    """An empty cache of that kind."""
    return world.cache()
