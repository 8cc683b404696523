"""Which keys a batch has, and what a batch does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from benchmarks.cache.timing import BATCH, EVICT, FEW, HIT, MISS, OVERWRITE, Full, Keys, full, key, measure


class FakeCache:
    """A dictionary. A look takes a second, a set three."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.hits = self.misses = 0

    async def get(self, keys: Sequence[str]) -> float:
        hits = sum(name in self.values for name in keys)
        self.hits += hits
        self.misses += len(keys) - hits
        return 1.0 * len(keys)

    async def set(self, keys: Sequence[str], value: bytes) -> float:
        self.values |= dict.fromkeys(keys, value)
        return 3.0 * len(keys)

    async def forget(self, keys: Sequence[str]) -> None:
        for name in keys:
            del self.values[name]


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("size", [FEW, 1_000, 5_000])
def test_keys_are_those_of_the_operation(size: int, *, few: bool) -> None:
    """What is to be a hit, or overwritten, is in a full cache; what is to miss or to evict is not, and what evicts is
    new each time; few keys are few, and the same ones each time."""
    keys = Keys(Random(1), few=few)
    present = {key(number) for number in range(size)}
    for operation in (HIT, OVERWRITE):
        drawn = keys.draw(operation, size)
        assert len(drawn) == BATCH
        assert set(drawn) <= present
        assert not few or set(drawn) == set(keys.draw(operation, size))
        assert not few or len(set(drawn)) == FEW
    assert not present & set(keys.draw(MISS, size))
    evicting = [*keys.draw(EVICT, size), *keys.draw(EVICT, size)]
    assert len(set(evicting)) == 2 * BATCH
    assert not present & set(evicting)


async def test_a_batch_is_what_it_says() -> None:
    """Hits hit, misses miss, and times are microseconds of one operation, in each round."""
    cache = FakeCache()
    caches: list[Full] = [await full(cache, 100)]
    assert len(cache.values) == 100
    keys = Keys(Random(1), few=False)
    assert await measure(HIT, caches, keys, rounds=2, batches=3) == [[1e6, 1e6]]
    assert (cache.hits, cache.misses) == (6 * BATCH, 0)
    await measure(MISS, caches, keys, rounds=1, batches=1)
    assert cache.misses == BATCH
    assert await measure(EVICT, caches, keys, rounds=1, batches=2) == [[3e6]]
    assert len(cache.values) == 100
