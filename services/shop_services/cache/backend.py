"""What the cache service asks of a place that keeps values: memory, a Redis, or the other instances of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from shop_services.cache.domain import Entry, Swap
from shop_services.caching.counts import Counts


class Values(Protocol):
    """Values by namespace and key. The namespace is one that is declared, and keys and values are within their limits.

    Versions grow with every change of a key, over deletes and restarts, and are never 0: one names one value for ever.
    A `ttl` is in nanoseconds; None: until the value is deleted or evicted. What is done to several keys is done to one
    after the other; of a failure some may have been done.

    Whoever reads survives the loss of a cache: what cannot be reached in time is missed by `get` and `get_many`. All
    others raise `Unavailable` then.
    """

    async def get(self, namespace: str, key: str) -> Entry | None:
        """The entry of `key`, which counts as a use of it; or None."""

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        """As many `get`s, in the order of `keys`.

        Raises:
            ResourceExhausted: what there is would not fit into an answer.
        """

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        """Keep `value`, in place of any older one. Returns its version."""

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        """As many `set`s; returns the versions in the order of `items`."""

    async def compare_and_set(self, namespace: str, key: str, value: bytes, ttl: int | None, expected: int) -> Swap:
        """Keep `value` if the version of the one that is there is `expected`; 0: if there is none."""

    async def delete(self, namespace: str, key: str) -> bool:
        """Forget the value of `key`. Returns whether there was one."""

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        """As many `delete`s; returns how many values there were."""

    async def clear(self, namespace: str) -> int:
        """Forget all values of a namespace, except perhaps those set meanwhile. Returns how many there were."""

    async def stats(self) -> Mapping[str, Counts]:
        """What each namespace holds on this instance and did there, by name in the order of the names."""
