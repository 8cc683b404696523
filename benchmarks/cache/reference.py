"""What each policy has to do, in the fewest words: how many of a trace's looks are hits, where every miss is stored.

They share no code with the caches, nor with what these are made of, and keep their books in another way: by queues and
heaps that still hold what has become untrue, and is passed over when it comes up.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType


def lru(trace: Iterable[int], size: int) -> int:
    """Hits of a cache of `size` things that forgets the one whose latest use is the longest ago."""
    hits = 0
    uses: deque[int] = deque()
    inside: Counter[int] = Counter()  # by thing in the cache: how many of its uses are in `uses`
    for thing in trace:
        hits += thing in inside
        uses.append(thing)
        inside[thing] += 1
        while len(inside) > size:
            oldest = uses.popleft()
            inside[oldest] -= 1
            if not inside[oldest]:
                del inside[oldest]
    return hits


def lfu(trace: Iterable[int], size: int) -> int:
    """Hits of a cache of `size` things that forgets the one with the fewest uses since it came in; of several such, the
    one whose latest use is the longest ago."""
    hits = 0
    inside: dict[int, tuple[int, int]] = {}  # by thing: its uses, and when the latest was
    order: list[tuple[int, int, int]] = []
    for now, thing in enumerate(trace):
        hits += thing in inside
        while thing not in inside and len(inside) >= size:
            uses, latest, rarest = heapq.heappop(order)
            if inside.get(rarest) == (uses, latest):
                del inside[rarest]
        uses = inside[thing][0] + 1 if thing in inside else 1
        inside[thing] = (uses, now)
        heapq.heappush(order, (uses, now, thing))
    return hits


def fifo(trace: Iterable[int], size: int) -> int:
    """Hits of a cache of `size` things that forgets the one that came in first."""
    hits = 0
    queue: deque[int] = deque()
    inside: set[int] = set()
    for thing in trace:
        if thing in inside:
            hits += 1
            continue
        if len(inside) >= size:
            inside.remove(queue.popleft())
        queue.append(thing)
        inside.add(thing)
    return hits


REFERENCES: Mapping[str, Callable[[Iterable[int], int], int]] = MappingProxyType({"lru": lru, "lfu": lfu, "fifo": fifo})
"""By the policy's name."""
