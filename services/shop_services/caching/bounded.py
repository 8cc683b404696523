"""A bounded store: values by key, within limits of entries and bytes, each for a time. Synchronous, no I/O, no timers.

The policy says which entry goes when there is no room, after all those whose time is over:

- `lru`: the one whose last use is longest ago. A use is a `get`, a `touch`, or a new value.
- `lfu`: the one that was used least often since it came; of equals, the one whose last use is longest ago.
- `fifo`: the one whose value is oldest. A new value for a key that is there goes to the end, as in cachetools.

A call does a bounded amount of work, whatever the store holds: it forgets a few entries whose time is over, and as many
as it takes to make room for what it was given. An entry whose time is over is never returned, forgotten yet or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Generic, Literal, TypeVar

import cachetools

from shop_services.caching.arguments import check_size, check_ttl
from shop_services.caching.counts import MISS, Counts, Miss
from shop_services.caching.deadlines import Deadlines, Entry

V = TypeVar("V")

Policy = Literal["lru", "lfu", "fifo"]

POLICIES: Final[Mapping[Policy, type[cachetools.Cache[str, Entry[object]]]]] = {
    "lru": cachetools.LRUCache,
    "lfu": cachetools.LFUCache,
    "fifo": cachetools.FIFOCache,
}

# More than one, so that forgetting is faster than setting; few, so that a million that expire at once stop nobody.
_FORGET_PER_CALL = 2

# Looks at an entry without using it: the policies' own `[]` is a use.
_look = cachetools.Cache.__getitem__


class Bounded(Generic[V]):
    """Values by key. `clock` gives seconds and never goes back.

    `size_of` says how many bytes a key and its value count for; it is needed for `max_bytes`. What Python needs around
    an entry is not counted: about 240 bytes, 280 by `lfu`.

    Raises:
        ValueError: a limit is less than 1, the policy is unknown, or there is a limit of bytes and no measure of them.
    """

    def __init__(
        self,
        policy: Policy = "lru",
        *,
        max_entries: int,
        max_bytes: int | None = None,
        size_of: Callable[[str, V], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy {policy!r}: one of {', '.join(POLICIES)}")
        if max_entries < 1 or (max_bytes is not None and max_bytes < 1):
            raise ValueError(f"max_entries {max_entries!r}, max_bytes {max_bytes!r}: at least 1")
        if max_bytes is not None and size_of is None:
            raise ValueError("max_bytes: needs size_of, to tell the bytes of a value")
        self.policy: Final = policy
        self.max_entries: Final = max_entries
        self.max_bytes: Final = max_bytes
        self._size_of = size_of
        self._clock = clock
        self._entries: cachetools.Cache[str, Entry[V]] = POLICIES[policy](max_entries)  # type: ignore[assignment]
        self._deadlines = Deadlines()
        self._bytes = 0
        self._hits = self._misses = self._sets = self._deletes = self._evictions = self._expirations = 0

    def __len__(self) -> int:
        """How many entries there are, with those whose time is over and that are not forgotten yet."""
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Bounded {self.policy}: {len(self):,} of {self.max_entries:,} entries>"

    def get(self, key: str) -> V | Miss:
        """The value of `key`, which is a use of it, or `MISS`. It is counted."""
        try:
            entry = self._entries[key]
        except KeyError:
            entry = None
        if entry is None or (entry.place and self._is_over(entry)):
            self._misses += 1
            return MISS
        self._hits += 1
        return entry.value

    def peek(self, key: str) -> V | Miss:
        """The value of `key` or `MISS`, neither used nor counted."""
        entry = self._find(key)
        return MISS if entry is None else entry.value

    def ttl(self, key: str) -> float | Miss | None:
        """How many seconds `key` still has; None: no end; or `MISS`."""
        entry = self._find(key)
        if entry is None:
            return MISS
        return entry.deadline - self._clock() if entry.place else None

    def set(self, key: str, value: V, ttl: float | None = None) -> None:
        """Keep `value`, in place of any older one, for `ttl` seconds; None: until there is no room for it.

        Raises:
            InvalidTtl: the TTL is not more than 0, or more than a year.
            ValueTooLarge: it is larger than the whole store; the older value stays.
        """
        if ttl is None:
            entry = self._put(key, value, self._clock())
            if entry.place:
                self._deadlines.discard(entry)
        else:
            check_ttl(ttl)
            now = self._clock()
            self._deadlines.put(self._put(key, value, now), now + ttl)

    def add(self, key: str, value: V, ttl: float | None = None) -> bool:
        """As `set`, if there is no value yet. Returns whether there was none."""
        if self._find(key) is not None:
            return False
        self.set(key, value, ttl)
        return True

    def replace(self, key: str, value: V) -> bool:
        """As `set`, if there is a value: the new one ends when the older one would have. Returns whether there was."""
        entry = self._find(key)
        if entry is None:
            return False
        deadline = entry.deadline if entry.place else None
        entry = self._put(key, value, self._clock())
        if deadline is not None:
            self._deadlines.put(entry, deadline)
        return True

    def touch(self, key: str) -> bool:
        """Use `key`, without counting it. Returns whether it has a value."""
        if self._find(key) is None:
            return False
        self._entries[key]
        return True

    def expire(self, key: str, ttl: float | None) -> bool:
        """Let the value of `key` end in `ttl` seconds; None: never. Returns whether it has one. Raises `InvalidTtl`."""
        check_ttl(ttl)
        entry = self._find(key)
        if entry is None:
            return False
        if ttl is None:
            self._deadlines.discard(entry)
        else:
            self._deadlines.put(entry, self._clock() + ttl)
        return True

    def delete(self, key: str) -> bool:
        """Forget the value of `key`. Returns whether there was one."""
        deleted = self.discard(key)
        self._deletes += deleted
        return deleted

    def discard(self, key: str) -> bool:
        """As `delete`, without counting it."""
        entry = self._find(key)
        if entry is None:
            return False
        self._remove(entry)
        return True

    def clear(self) -> int:
        """Forget everything. Returns how many values that were. Takes a time of their number."""
        self.forget_expired(len(self._entries))
        cleared = len(self._entries)
        self._deletes += cleared
        for key in self._entries:
            self._deadlines.discard(_look(self._entries, key))
        self._entries.clear()
        self._bytes = 0
        return cleared

    def forget_expired(self, at_most: int = _FORGET_PER_CALL) -> int:
        """Forget up to `at_most` entries whose time is over. Returns how many there were of them."""
        return self._forget(self._clock(), at_most)

    def _forget(self, now: float, at_most: int = _FORGET_PER_CALL) -> int:
        forgotten = 0
        over = self._deadlines.over
        while forgotten < at_most and (entry := over(now)) is not None:
            self._expire(entry)
            forgotten += 1
        return forgotten

    def keys(self) -> list[str]:
        """All keys as of now, in no order; some may be of entries whose time is over."""
        return list(self._entries)

    def counts(self) -> Counts:
        return Counts(
            hits=self._hits,
            misses=self._misses,
            sets=self._sets,
            deletes=self._deletes,
            evictions=self._evictions,
            expirations=self._expirations,
            entries=len(self._entries),
            bytes=None if self._size_of is None else self._bytes,
        )

    def _find(self, key: str) -> Entry[V] | None:
        if key not in self._entries:
            return None
        entry: Entry[V] = _look(self._entries, key)
        return None if entry.place and self._is_over(entry) else entry

    def _is_over(self, entry: Entry[V]) -> bool:
        """Whether the time of `entry` is over; it is forgotten then."""
        if entry.deadline > self._clock():
            return False
        self._expire(entry)
        return True

    def _put(self, key: str, value: V, now: float) -> Entry[V]:
        """Keep `value`, with the deadline of the older one if there is any. Raises `ValueTooLarge`."""
        size, limit = 0, self.max_bytes
        if self._size_of is not None:
            size = self._size_of(key, value)
            if limit is not None and size > limit:
                check_size(key, size, limit, "the cache")
        entries = self._entries
        more_over = self._forget(now) == _FORGET_PER_CALL
        entry: Entry[V] | None = None
        if key in entries:
            entry = _look(entries, key)
            if entry.place and entry.deadline <= now:
                self._expire(entry)
                entry = None
        if entry is not None:
            size -= entry.size
        elif len(entries) >= self.max_entries:
            self._make_room(now if more_over else None)
        while limit is not None and self._bytes + size > limit:
            if self._make_room(now if more_over else None, entry) is entry and entry is not None:
                size += entry.size
                entry = None
        self._bytes += size
        if entry is None:
            entry = Entry(key, value, size)
        else:
            entry.value = value
            entry.size += size
        entries[key] = entry
        self._sets += 1
        return entry

    def _make_room(self, now: float | None, replaced: Entry[V] | None = None) -> Entry[V]:
        """Forget the entry that goes first, and return it; None for `now`: no entry's time is over.

        One that is being replaced is not counted as evicted.
        """
        if now is not None and (over := self._deadlines.over(now)) is not None:
            self._expire(over)
            return over
        _, entry = self._entries.popitem()
        if entry.place:
            self._deadlines.discard(entry)
        self._bytes -= entry.size
        if entry is not replaced:
            self._evictions += 1
        return entry

    def _expire(self, entry: Entry[V]) -> None:
        self._remove(entry)
        self._expirations += 1

    def _remove(self, entry: Entry[V]) -> None:
        del self._entries[entry.key]
        self._deadlines.discard(entry)
        self._bytes -= entry.size
