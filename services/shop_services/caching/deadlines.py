"""Which entries' time is over: two queues and a heap that an entry can leave at any time, from wherever it is.

An entry that is replaced or deleted leaves nothing behind. The usual heap skips such remains when it comes across them:
they pile up in front of the first live one, or are swept out at a moment that suits nobody.

Entries mostly get one TTL, so that each deadline is later than those before it: they form a queue, by links in the
entries themselves. A second queue is for a second, shorter TTL. What comes out of order, as jittered TTLs do, goes to
the heap, which is several times slower with a million entries, as every step of it waits for memory.
"""

from __future__ import annotations

import math
from typing import Any, Final, Generic, TypeVar

V = TypeVar("V")

_QUEUED: Final = -1


class Entry(Generic[V]):
    """A value in a cache. `place` is 0 if it has no deadline; else it belongs to its `Deadlines`, as the links do."""

    __slots__ = ("after", "before", "deadline", "key", "place", "size", "value")

    def __init__(self, key: str, value: V, size: int) -> None:
        self.key = key
        self.value = value
        self.size = size
        self.place = 0
        self.deadline = -math.inf  # in the clock's seconds
        self.before: Any = None
        self.after: Any = None


class Deadlines:
    """The entries that have a deadline. A call takes a constant time in a queue, and a logarithmic one in the heap."""

    __slots__ = ("_heap", "_queues", "_size")

    def __init__(self) -> None:
        self._size = 0
        # A queue is a ring: after its root comes the first entry, before it the last.
        self._queues = (_root(), _root())
        # At a place of 1 or more. No entry's deadline is before that of the one at half of its place.
        self._heap: list[Entry[Any]] = [_root()]

    def __len__(self) -> int:
        return self._size

    def over(self, now: float) -> Entry[Any] | None:
        """An entry whose time is over, if there is any."""
        if not self._size:
            return None
        for root in self._queues:
            entry: Entry[Any] = root.after
            if entry.deadline <= now and entry is not root:
                return entry
        heap = self._heap
        return heap[1] if len(heap) > 1 and heap[1].deadline <= now else None

    def put(self, entry: Entry[Any], deadline: float) -> None:
        """Give `entry` a deadline, in place of any that it has."""
        if entry.place:
            self.discard(entry)
        self._size += 1
        entry.deadline = deadline
        for root in self._queues:
            last = root.before
            if last.deadline <= deadline:
                entry.place = _QUEUED
                entry.before, entry.after = last, root
                last.after = root.before = entry
                return
        entry.place = len(self._heap)
        self._heap.append(entry)
        self._rise(entry)

    def discard(self, entry: Entry[Any]) -> None:
        """Let `entry` have no deadline."""
        place = entry.place
        if not place:
            return
        self._size -= 1
        entry.place = 0
        if place == _QUEUED:
            before, after = entry.before, entry.after
            before.after, after.before = after, before
            entry.before = entry.after = None
            return
        last = self._heap.pop()
        if last is not entry:
            self._heap[place] = last
            last.place = place
            self._sink(last)

    def _rise(self, entry: Entry[Any]) -> None:
        heap, place, deadline = self._heap, entry.place, entry.deadline
        while place > 1 and (parent := heap[place >> 1]).deadline > deadline:
            heap[place] = parent
            place, parent.place = parent.place, place
        heap[place] = entry
        entry.place = place

    def _sink(self, entry: Entry[Any]) -> None:
        """Put `entry` where it belongs, from wherever it is.

        It goes down to the very end and rises from there: what is moved mostly belongs near the end, so this takes half
        of the comparisons of looking at each step whether it has gone far enough.
        """
        heap, place = self._heap, entry.place
        end = len(heap)
        while (child := 2 * place) < end:
            least = heap[child]
            if child + 1 < end and heap[child + 1].deadline < least.deadline:
                least = heap[child + 1]
            heap[place] = least
            place, least.place = least.place, place
        entry.place = place
        self._rise(entry)


def _root() -> Entry[Any]:
    root: Entry[Any] = Entry("", None, 0)
    root.before = root.after = root
    return root
