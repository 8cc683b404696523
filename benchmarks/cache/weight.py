"""How many bytes an entry takes in the memory of the process, as tracemalloc counts them."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.cache.rivals import Rival
from benchmarks.cache.timing import BATCH, VALUE, key


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes an entry, with its key and its value.

    `filled`: when the cache has just been filled; `refilled`: twice more since then, with other keys, which evicted the
    earlier ones; None: it evicts nothing.
    """

    filled: float
    refilled: float | None


def bare() -> int:
    """Bytes of a key and its value alone."""
    return sys.getsizeof(key(0)) + sys.getsizeof(VALUE)


async def weigh(make: Callable[[], Rival], entries: int, *, evicts: bool) -> Weight:
    """The weight of the entries of a cache with room for so many."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        rival = make()
        await _fill(rival, range(entries))
        filled = _traced() - before
        refilled = None
        if evicts:
            await _fill(rival, range(entries, 3 * entries))
            refilled = (_traced() - before) / entries
        return Weight(filled / entries, refilled)
    finally:
        tracemalloc.stop()


async def _fill(rival: Rival, numbers: Sequence[int]) -> None:
    for start in range(0, len(numbers), BATCH):
        for number in numbers[start : start + BATCH]:
            await rival.set([key(number)], bytes(bytearray(VALUE)))  # a value of its own


def _traced() -> int:
    gc.collect()
    now, _ = tracemalloc.get_traced_memory()
    return now
