"""How many looks of a trace are hits: in the memory backend, and by the reference of its policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cache.reference import REFERENCES
from benchmarks.cache.timing import VALUE, key
from shop_services.caching.backend import MISS
from shop_services.caching.bounded import Policy
from shop_services.caching.memory import MemoryCache


@dataclass(frozen=True, slots=True)
class Hits:
    """Of `looks`, how many were hits."""

    policy: Policy
    size: int
    looks: int
    ours: int
    reference: int

    @property
    def difference(self) -> float:
        """In parts of all looks."""
        return abs(self.ours - self.reference) / self.looks


async def compare(policy: Policy, size: int, trace: Sequence[int]) -> Hits:
    """Play the trace to a cache of `size` entries that stores what it misses, and to the reference."""
    cache = MemoryCache(policy, max_entries=size)
    for number in trace:
        name = key(number)
        if await cache.get_or_miss(name) is MISS:
            await cache.set(name, VALUE)
    return Hits(policy, size, len(trace), cache.counts().hits, REFERENCES[policy](trace, size))
