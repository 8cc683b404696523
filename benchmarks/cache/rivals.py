"""The memory backend, and what it is compared with: all are looked at and written to by the batch, which is timed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import aiocache  # type: ignore[import-untyped]
import cachetools

from shop_services.caching.bounded import Policy
from shop_services.caching.memory import MemoryCache

TTL = 3600.0
"""Seconds: so long that no entry's time is over before the end."""

_PATIENCE = 5.0
"""aiocache's default `timeout`."""

_BARE: Mapping[Policy, type[cachetools.Cache[str, bytes]]] = {
    "lru": cachetools.LRUCache,
    "lfu": cachetools.LFUCache,
    "fifo": cachetools.FIFOCache,
}


class Rival(Protocol):
    """A cache with which batches are timed."""

    async def get(self, keys: Sequence[str]) -> float:
        """The seconds of processor time that it takes to look for each of `keys`."""

    async def set(self, keys: Sequence[str], value: bytes) -> float:
        """The seconds of processor time that it takes to store `value` for each of `keys`."""

    async def forget(self, keys: Sequence[str]) -> None:
        """Remove `keys`, as far as they did not make room by themselves."""


class Awaited:
    """A cache with aiocache's interface."""

    def __init__(self, cache: aiocache.BaseCache) -> None:
        self.cache: Final = cache

    async def get(self, keys: Sequence[str]) -> float:
        get = self.cache.get
        start = time.thread_time()
        for key in keys:
            await get(key)
        return time.thread_time() - start

    async def set(self, keys: Sequence[str], value: bytes) -> float:
        set_ = self.cache.set
        start = time.thread_time()
        for key in keys:
            await set_(key, value)
        return time.thread_time() - start

    async def forget(self, keys: Sequence[str]) -> None:
        if not isinstance(self.cache, MemoryCache):
            for key in keys:
                await self.cache.delete(key)


class Raw:
    """A cache of cachetools, called without a coroutine around it. It has a limit of entries, none of bytes or time."""

    def __init__(self, cache: cachetools.Cache[str, bytes]) -> None:
        self.cache: Final = cache

    async def get(self, keys: Sequence[str]) -> float:
        get = self.cache.get
        start = time.thread_time()
        for key in keys:
            get(key)
        return time.thread_time() - start

    async def set(self, keys: Sequence[str], value: bytes) -> float:
        cache = self.cache
        start = time.thread_time()
        for key in keys:
            cache[key] = value
        return time.thread_time() - start

    async def forget(self, keys: Sequence[str]) -> None:
        """It has made room by itself."""


def ours(policy: Policy, entries: int) -> Awaited:
    """The memory backend with all limits: of entries, of bytes (more than enough of them), and a TTL."""
    return Awaited(MemoryCache(policy, max_entries=entries, max_bytes=1024 * entries, ttl=TTL))


def raw(policy: Policy, entries: int) -> Raw:
    """cachetools' cache of the same policy and the same number of entries."""
    return Raw(_BARE[policy](entries))


def plain(*, ttl: float | None = None, timeout: float = 0) -> Awaited:
    """aiocache's own memory cache, which has no limit."""
    return Awaited(aiocache.SimpleMemoryCache(timeout=timeout, ttl=ttl))


def patient() -> Awaited:
    """aiocache's own memory cache as it comes."""
    return plain(timeout=_PATIENCE)
