"""The store: values by namespace and key, in memory, for a time, within limits.

It is synchronous, so that a call is never interleaved with another, and it has no timer: each call forgets a few of the
entries whose time has come, and none of them is ever returned or counted, whether it was forgotten yet or not.

When there is no room, expired entries go first, then the least recently used one, of whatever namespace. Versions come
from one counter for all keys, so that a key's version grows across deletes and evictions without a memory of the dead.
It starts at the clock's microseconds, so that it also grows across restarts: a version is never given to two values.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from shop_services.cache.domain import Counts, Entry, Limits, size
from shop_services.runtime.errors import ResourceExhausted

# A call does a bounded amount of the tidying, so that a million entries that expire at once stop nobody. More than one,
# so that tidying is faster than setting.
_EXPIRE_PER_CALL = 16


@dataclass(slots=True)
class _Namespace:
    name: str
    entries: dict[str, Entry] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class Store:
    """A bounded cache of bytes. `clock` gives nanoseconds since the Unix epoch and never goes back."""

    def __init__(self, limits: Limits, clock: Callable[[], int]) -> None:
        self._limits = limits
        self._clock = clock
        self._version = clock() // 1000
        self._namespaces: dict[str, _Namespace] = {}
        self._by_use: OrderedDict[Entry, None] = OrderedDict()  # the least recently used first
        self._bytes = 0
        # A heap of (expires, version, namespace, key). An entry that was replaced or removed stays in it until its
        # time has come or the heap is made anew; the version tells. It holds no entries, so it keeps no value alive.
        self._deadlines: list[tuple[int, int, str, str]] = []

    def __repr__(self) -> str:
        return f"<Store {len(self._by_use)} entries, {self._bytes} bytes, {len(self._namespaces)} namespaces>"

    def get(self, namespace: str, key: str) -> Entry | None:
        """The value of `key`, which counts as a use of it; or None.

        Raises:
            ResourceExhausted: there is no room for one more namespace.
        """
        now = self._begin()
        space = self._namespace(namespace, now)
        entry = self._find(space, key, now)
        if entry is None:
            space.counts.misses += 1
        else:
            space.counts.hits += 1
            self._by_use.move_to_end(entry)
        return entry

    def set(self, namespace: str, key: str, value: bytes, ttl: int | None = None) -> int:
        """Keep `value`, in place of any older one, for `ttl` nanoseconds (None: until there is no room for it).

        Returns its version.

        Raises:
            ValueError: it is larger than the whole store; the older value stays.
            ResourceExhausted: there is no room for one more namespace.
        """
        if (needed := size(key, value)) > self._limits.bytes:
            raise ValueError(f"{needed:,} bytes with its key; the whole store holds {self._limits.bytes:,}")
        now = self._begin()
        space = self._namespace(namespace, now)
        replaced = self._find(space, key, now)
        if replaced is not None:
            self._remove(replaced)
        self._version += 1
        self._add(space, Entry(space.name, key, value, self._version, None if ttl is None else now + ttl))
        space.counts.sets += 1
        self._make_room(now)
        return self._version

    def delete(self, namespace: str, key: str) -> bool:
        """Forget the value of `key`. Returns whether there was one."""
        now = self._begin()
        space = self._namespaces.get(namespace)
        entry = None if space is None else self._find(space, key, now)
        if space is None or entry is None:
            return False
        self._remove(entry)
        space.counts.deletes += 1
        return True

    def clear(self, namespace: str) -> int:
        """Forget all values of a namespace. Returns how many there were."""
        now = self._begin()
        space = self._namespaces.get(namespace)
        if space is None:
            return 0
        removed = 0
        for entry in list(space.entries.values()):
            if self._find(space, entry.key, now) is not None:
                self._remove(entry)
                removed += 1
        space.counts.deletes += removed
        return removed

    def stats(self, namespace: str | None = None) -> dict[str, Counts]:
        """The counts of each namespace (or of one, if it is known), by name, in the order of the names."""
        self._expire(self._clock(), at_most=len(self._by_use))
        return {
            name: replace(space.counts)
            for name, space in sorted(self._namespaces.items())
            if namespace is None or name == namespace
        }

    def _begin(self) -> int:
        now = self._clock()
        self._expire(now, at_most=_EXPIRE_PER_CALL)
        return now

    def _namespace(self, name: str, now: int) -> _Namespace:
        space = self._namespaces.get(name)
        if space is None:
            if len(self._namespaces) >= self._limits.namespaces:
                self._forget_empty_namespace(name, now)
            space = self._namespaces[name] = _Namespace(name)
        return space

    def _forget_empty_namespace(self, newcomer: str, now: int) -> None:
        self._expire(now, at_most=len(self._by_use))
        empty = next((name for name, space in self._namespaces.items() if not space.entries), None)
        if empty is None:
            why = f"no room for the namespace {newcomer!r}: {self._limits.namespaces:,} others hold values"
            raise ResourceExhausted("namespaces", why)
        del self._namespaces[empty]

    def _find(self, space: _Namespace, key: str, now: int) -> Entry | None:
        entry = space.entries.get(key)
        if entry is not None and entry.expires is not None and entry.expires <= now:
            self._remove(entry)
            space.counts.expirations += 1
            return None
        return entry

    def _add(self, space: _Namespace, entry: Entry) -> None:
        space.entries[entry.key] = entry
        self._by_use[entry] = None
        self._count(entry, 1)
        if entry.expires is not None:
            heapq.heappush(self._deadlines, (entry.expires, entry.version, entry.namespace, entry.key))
            if len(self._deadlines) > 2 * len(self._by_use) + 64:
                self._rebuild_deadlines()

    def _remove(self, entry: Entry) -> None:
        del self._namespaces[entry.namespace].entries[entry.key]
        del self._by_use[entry]
        self._count(entry, -1)

    def _count(self, entry: Entry, sign: int) -> None:
        counts = self._namespaces[entry.namespace].counts
        counts.entries += sign
        counts.bytes += sign * entry.size
        self._bytes += sign * entry.size

    def _make_room(self, now: int) -> None:
        while len(self._by_use) > self._limits.entries or self._bytes > self._limits.bytes:
            if not self._expire(now, at_most=1):
                unused = next(iter(self._by_use))
                self._remove(unused)
                self._namespaces[unused.namespace].counts.evictions += 1

    def _expire(self, now: int, *, at_most: int) -> int:
        expired = 0
        while expired < at_most and self._deadlines and self._deadlines[0][0] <= now:
            _, version, name, key = heapq.heappop(self._deadlines)
            space = self._namespaces.get(name)
            entry = None if space is None else space.entries.get(key)
            if space is not None and entry is not None and entry.version == version:
                self._remove(entry)
                space.counts.expirations += 1
                expired += 1
        return expired

    def _rebuild_deadlines(self) -> None:
        self._deadlines = [(e.expires, e.version, e.namespace, e.key) for e in self._by_use if e.expires is not None]
        heapq.heapify(self._deadlines)
