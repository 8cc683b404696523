"""Times what is done to full caches, in batches, between which the caches take turns.

Each key that is asked for is a text of its own, equal to the one in the cache, as it is when it comes in a request. Its
hash is known already: the first cache of a turn would otherwise pay for that alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.cache.rivals import Rival

HIT, MISS, OVERWRITE, EVICT = "get, a hit", "get, a miss", "set, there already", "set, evicting"
OPERATIONS = (HIT, MISS, OVERWRITE, EVICT)
"""In this order, on one cache: the last one replaces what the others look for."""

FEW = 64
BATCH = 10 * FEW
VALUE = bytes(100)


@dataclass(frozen=True, slots=True)
class Full:
    """A cache with the keys of the numbers from 0 to `entries` - 1."""

    rival: Rival
    entries: int


def key(number: int) -> str:
    """What the cache calls the thing with that number."""
    return f"product/{number:08}"


async def full(rival: Rival, entries: int) -> Full:
    """Fill a cache that has room for so many."""
    for start in range(0, entries, BATCH):
        await rival.set([key(number) for number in range(start, min(start + BATCH, entries))], VALUE)
    return Full(rival, entries)


class Keys:
    """Draws the keys for batches. `few`: the same ones over and over, so that they stay in the processor's caches."""

    def __init__(self, rng: Random, *, few: bool) -> None:
        self._rng = rng
        self._few = few
        self._new = itertools.count(10_000_000)
        self._absent = self._next_new(FEW)

    def draw(self, operation: str, entries: int) -> list[str]:
        """The keys of a batch for a cache with so many entries. Those that evict are new each time."""
        if operation == EVICT:
            return self._next_new(BATCH)
        if operation == MISS:
            return self._absent * (BATCH // FEW) if self._few else self._next_new(BATCH)
        if self._few:
            return _hashed([key(number) for number in range(0, entries, entries // FEW)][:FEW]) * (BATCH // FEW)
        return _hashed([key(self._rng.randrange(entries)) for _ in range(BATCH)])

    def _next_new(self, count: int) -> list[str]:
        return _hashed([key(number) for number in itertools.islice(self._new, count)])


async def measure(
    operation: str, caches: Sequence[Full], keys: Keys, *, rounds: int, batches: int
) -> list[list[float]]:
    """Microseconds of the operation: for each of `caches`, in each round."""
    costs: list[list[float]] = [[] for _ in caches]
    sizes = {cache.entries for cache in caches}
    with _uncollected():
        for _ in range(rounds):
            spent: list[list[float]] = [[] for _ in caches]
            for _ in range(batches):
                drawn = {entries: keys.draw(operation, entries) for entries in sizes}
                for cache, times in zip(caches, spent, strict=True):
                    times.append(await _timed(operation, cache.rival, drawn[cache.entries]))
                    await asyncio.sleep(0)  # the event loop sweeps out timers that were cancelled
            for cost, times in zip(costs, spent, strict=True):
                cost.append(1e6 * statistics.median(times) / BATCH)
    return costs


async def _timed(operation: str, rival: Rival, keys: Sequence[str]) -> float:
    if operation in (HIT, MISS):
        return await rival.get(keys)
    seconds = await rival.set(keys, VALUE)
    if operation == EVICT:
        await rival.forget(keys)
    return seconds


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile, as timeit does."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _hashed(keys: list[str]) -> list[str]:
    for text in keys:
        hash(text)
    return keys
