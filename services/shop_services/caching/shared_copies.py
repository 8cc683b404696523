"""Copies in a cache that processes share, for reads that must not depend on it: nothing here raises for its sake.

Every attempt ends within `timeout`, and a breaker leaves a cache alone that does not answer. What the cache returns is
believed only as far as it can be checked: it may be another key's, garbage, late, or deleted long ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import Enum, auto
from typing import Generic, TypeVar

from shop_services.caching.backend import Backend
from shop_services.caching.breaker import Breaker
from shop_services.caching.copies import Codec, Copy, Unreadable, V, decode, encode
from shop_services.caching.counts import MISS
from shop_services.caching.errors import CacheError, KeyExists
from shop_services.caching.lifetimes import Lifetimes
from shop_services.caching.tiers import Tier

T = TypeVar("T")


class Lock(Enum):
    """What became of an attempt to be the one process that asks the source."""

    TAKEN = auto()
    HELD = auto()  # by another process
    UNKNOWN = auto()  # the cache does not say


class SharedCopies(Generic[V]):
    """The copies in `backend`, which stores bytes. `counts` counts; hits and misses are left to who reads."""

    def __init__(
        self,
        backend: Backend,
        codec: Codec[V],
        *,
        is_current: Callable[[str, int], bool],
        lifetimes: Lifetimes,
        breaker: Breaker,
        timeout: float,
        counts: Tier,
    ) -> None:
        self._backend = backend
        self._codec = codec
        self._is_current = is_current
        self._lifetimes = lifetimes
        self._breaker = breaker
        self._timeout = timeout
        self._counts = counts

    async def look(self, keys: Collection[str]) -> dict[str, Copy[V]]:
        """The usable copies of these keys: readable, current and alive, with the times of their lives by our clock."""
        asked = list(keys)
        answers: list[object]
        if len(asked) == 1:
            answers = await self._attempt(lambda: _listed(self._backend.get_or_miss(asked[0])), [])
        else:
            answers = await self._attempt(lambda: self._backend.multi_get_or_miss(asked), [])
        found = {}
        for key, data in zip(asked, answers, strict=False):  # whatever a backend makes of it
            if data is not MISS and (copy := self._check(key, data)) is not None:
                found[key] = copy
        return found

    async def store(self, copies: Mapping[str, Copy[V]]) -> None:
        """Keep these copies there for as long as they live. One that is too large for the cache stays out."""
        for negative in (False, True):  # which live for different times
            group = {key: copy for key, copy in copies.items() if (copy.value is None) == negative}
            if group:
                await self._store(group)

    async def delete(self, key: str) -> None:
        await self._attempt(lambda: self._backend.delete(key), 0)

    async def lock(self, key: str, seconds: float) -> Lock:
        """Try to be the one that asks the source for `key`. A lock ends by itself after so many seconds."""

        async def add() -> Lock:
            try:
                await self._backend.add(_lock_of(key), b"1", ttl=seconds)
            except KeyExists:
                return Lock.HELD
            return Lock.TAKEN

        return await self._attempt(add, Lock.UNKNOWN)

    async def unlock(self, key: str) -> None:
        """Let others ask the source for `key`. Only for who took the lock, and before it has ended by itself."""
        await self._attempt(lambda: self._backend.delete(_lock_of(key)), 0)

    async def _store(self, group: Mapping[str, Copy[V]]) -> None:
        ttl = max(map(self._lifetimes.left, group.values()))
        if ttl <= 0:
            return
        pairs = [(key, encode(key, copy, self._lifetimes.by_wall(copy), self._codec)) for key, copy in group.items()]
        if limit := self._backend.max_value:
            self._counts.skipped += sum(len(data) > limit for _, data in pairs)
            pairs = [(key, data) for key, data in pairs if len(data) <= limit]
        if len(pairs) == 1:
            await self._attempt(lambda: self._backend.set(*pairs[0], ttl=ttl), True)
        elif pairs:
            await self._attempt(lambda: self._backend.multi_set(pairs, ttl=ttl), True)

    def _check(self, key: str, data: object) -> Copy[V] | None:
        try:
            copy = decode(key, data, self._codec)
        except Unreadable:
            self._counts.errors += 1
            return None
        if not self._is_current(key, copy.as_of):
            self._counts.stale += 1
            return None
        return self._lifetimes.adopted(copy)

    async def _attempt(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        if not self._breaker.allows():
            self._counts.skipped += 1
            return otherwise
        try:
            async with asyncio.timeout(self._timeout):
                answer = await call()
        except CacheError as error:
            self._counts.errors += 1
            self._breaker.refused(error)
            return otherwise
        except Exception as error:
            self._counts.errors += 1
            self._breaker.failed(error)
            return otherwise
        self._breaker.worked()
        return answer


async def _listed(answer: Awaitable[T]) -> list[T]:
    return [await answer]


def _lock_of(key: str) -> str:
    return f"lock:{key}"
