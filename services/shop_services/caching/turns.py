"""Whose turn it is to ask the source, of the processes that share a cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Generic

from shop_services.caching.copies import ANY, Copy, V
from shop_services.caching.lifetimes import Lifetimes
from shop_services.caching.shared_copies import Lock, SharedCopies
from shop_services.caching.tiers import Tier

_FIRST_LOOK, _LONGEST = 0.002, 0.025  # seconds between two looks for what another process loads


class Turns(Generic[V]):
    """Locks in the shared cache, one a key. They spare the source work and promise nothing: who waits too long asks.

    A lock ends by itself after `patience` seconds, and nobody waits longer for one: whose owner died, or is slow, it
    holds up those who come within that time, for no longer than that time.
    """

    def __init__(
        self,
        shared: SharedCopies[V] | None,
        *,
        is_current: Callable[[str, int], bool],
        lifetimes: Lifetimes,
        patience: float,
        clock: Callable[[], float],
        rng: Random,
        counts: Tier,
    ) -> None:
        self._shared = shared
        self._is_current = is_current
        self._lifetimes = lifetimes
        self._patience = patience
        self._clock = clock
        self._rng = rng
        self._counts = counts

    @asynccontextmanager
    async def waited(self, keys: Sequence[str]) -> AsyncIterator[Mapping[str, Copy[V]]]:
        """What the shared cache has, at once or as soon as others have loaded it. It is our turn to load the rest.

        It takes no longer than `patience` to get into the block. For many keys nobody waits.
        """
        found: dict[str, Copy[V]] = {}
        ours_until = 0.0
        if self._shared is not None:
            if self._is_current(keys[0], ANY):  # else nothing that it has may be used
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._patience):
                        found = await self._shared.look(keys)
                        if len(keys) == 1 and not found:
                            found, ours_until = await self._wait(keys[0], self._shared)
            self._counts.hits += len(found)
            self._counts.misses += len(keys) - len(found)
        try:
            yield found
        finally:
            await self._unlock(keys[0], ours_until)

    @asynccontextmanager
    async def unhurried(self, keys: Sequence[str]) -> AsyncIterator[tuple[Mapping[str, Copy[V]], bool]]:
        """What others have refreshed, and whether it is our turn to refresh the rest, as no other is at it."""
        if self._shared is None:
            yield {}, True
            return
        newer = {key: copy for key, copy in (await self._shared.look(keys)).items() if not self._lifetimes.late(copy)}
        if newer or len(keys) > 1:
            yield newer, True
            return
        until = self._clock() + self._patience
        lock = await self._shared.lock(keys[0], self._patience)
        try:
            yield {}, lock is not Lock.HELD
        finally:
            await self._unlock(keys[0], until if lock is Lock.TAKEN else 0.0)

    async def _wait(self, key: str, shared: SharedCopies[V]) -> tuple[dict[str, Copy[V]], float]:
        """What another process has loaded meanwhile; if none has, until when the lock is ours for certain, if it is."""
        pause = _FIRST_LOOK
        while True:
            until = self._clock() + self._patience
            lock = await shared.lock(key, self._patience)
            if lock is not Lock.HELD:
                return {}, until if lock is Lock.TAKEN else 0.0
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST)
            if found := await shared.look([key]):
                return found, 0.0

    async def _unlock(self, key: str, ours_until: float) -> None:
        if self._shared is not None and self._clock() < ours_until:  # later it may be another's
            await self._shared.unlock(key)
