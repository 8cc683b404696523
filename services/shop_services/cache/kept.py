"""The values that this instance answers for: those in its memory, without what it has lost when the ring changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from shop_services.cache.domain import Entry, Swap
from shop_services.cache.memory import MemoryValues
from shop_services.cache.share import Share
from shop_services.caching.counts import Counts

_LOOK_SECONDS = 0.2
"""How often it is looked at whether the ring has changed, if nobody asks for a value meanwhile."""
_QUIET_LOOKS = 5
"""After so many without a change all go by the same ring, and what was kept for others meanwhile is of no more use."""


class KeptValues:
    """`Values` in memory that are this instance's by its `share` of the ring, and those that it was told to keep."""

    def __init__(self, memory: MemoryValues, share: Share) -> None:
        self._memory = memory
        self._share = share

    @asynccontextmanager
    async def handing_over(self) -> AsyncIterator[None]:
        """While inside, what is lost is forgotten soon, not only when it is asked for."""
        forgetting = asyncio.create_task(self._forget_what_is_lost(), name="cache hand-over")
        try:
            yield
        finally:
            forgetting.cancel()
            with suppress(asyncio.CancelledError):
                await forgetting

    async def get(self, namespace: str, key: str) -> Entry | None:
        self._look(namespace, (key,))
        return await self._memory.get(namespace, key)

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        self._look(namespace, keys)
        return await self._memory.get_many(namespace, keys)

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        self._look(namespace, (key,))
        return await self._memory.set(namespace, key, value, ttl)

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        self._look(namespace, (key for key, _ in items))
        return await self._memory.set_many(namespace, items, ttl)

    async def compare_and_set(self, namespace: str, key: str, value: bytes, ttl: int | None, expected: int) -> Swap:
        self._look(namespace, (key,))
        return await self._memory.compare_and_set(namespace, key, value, ttl, expected)

    async def delete(self, namespace: str, key: str) -> bool:
        self._look(namespace, (key,))
        return await self._memory.delete(namespace, key)

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        self._look(namespace, keys)
        return await self._memory.delete_many(namespace, keys)

    async def clear(self, namespace: str) -> int:
        return await self._memory.clear(namespace)

    async def stats(self) -> Mapping[str, Counts]:
        return await self._memory.stats()

    def _look(self, namespace: str, keys: Iterable[str]) -> None:
        """Forget the entries of these keys that are lost. Nothing comes between this and what follows in memory."""
        self._share.look()
        if self._share.past:
            for key in keys:
                entry = self._memory.peek(namespace, key)
                if entry is not None and self._share.has_lost(namespace, entry):
                    self._memory.discard(namespace, key)

    async def _forget_what_is_lost(self) -> None:
        quiet = _QUIET_LOOKS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._share.changed.wait()
            self._share.changed.clear()
            self._share.look()
            quiet = 0 if self._share.past else quiet + 1
            while past := self._share.past:
                await self._memory.retain(lambda namespace, entry: not self._share.has_lost(namespace, entry))
                self._share.settled(past)
            if quiet == _QUIET_LOOKS:
                await self._memory.retain(lambda namespace, entry: self._share.owner(namespace, entry.key) is None)
