"""Copies in this process. Nothing here suspends, so nothing happens between a check and what is done about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Copy, V
from shop_services.caching.counts import MISS
from shop_services.caching.errors import ValueTooLarge
from shop_services.caching.lifetimes import Lifetimes
from shop_services.caching.tiers import Tier


class LocalCopies(Generic[V]):
    """The copies in `store`; without one, none. `counts` counts."""

    def __init__(
        self,
        store: Bounded[Copy[V]] | None,
        *,
        is_current: Callable[[str, int], bool],
        lifetimes: Lifetimes,
        counts: Tier,
    ) -> None:
        self._store = store
        self._is_current = is_current
        self._lifetimes = lifetimes
        self._counts = counts

    def get(self, key: str) -> Copy[V] | None:
        """The copy of `key`, if it is current."""
        if self._store is None:
            return None
        copy = self._store.get(key)
        if copy is not MISS:
            if self._is_current(key, copy.as_of):
                self._counts.hits += 1
                return copy
            self._counts.stale += 1
        self._counts.misses += 1
        return None

    def keep(self, key: str, copy: Copy[V]) -> None:
        """Have this copy in place of an older one, for as long as it lives; or none, if it is larger than the store."""
        if self._store is not None and (left := self._lifetimes.left(copy)) > 0:
            try:
                self._store.set(key, copy, left)
            except ValueTooLarge:
                self._counts.skipped += 1
                self._store.delete(key)

    def forget(self, key: str) -> None:
        if self._store is not None:
            self._store.delete(key)
