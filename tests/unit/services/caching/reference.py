"""What a bounded store does, said as plainly as it can be: a list of rows, looked through for everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shop_services.caching.counts import MISS, Counts, Miss


@dataclass(eq=False)
class Row:
    key: str
    value: int
    size: int
    deadline: float | None
    uses: int
    used: int
    """The number of the call that used it last."""
    set: int
    """The number of the call that set its value."""


class Reference:
    """A row whose time is over is gone at once."""

    def __init__(self, policy: str, max_entries: int, max_bytes: int | None, clock: Callable[[], float]) -> None:
        self.policy = policy
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.clock = clock
        self.calls = 0
        self.rows: list[Row] = []
        self.happened = dict.fromkeys(("hits", "misses", "sets", "deletes", "evictions", "expirations"), 0)

    def counts(self) -> Counts:
        return Counts(**self.happened, entries=len(self.rows), bytes=sum(row.size for row in self.rows))

    def begin(self) -> None:
        """Every call begins so."""
        self.calls += 1
        over = [row for row in self.rows if row.deadline is not None and row.deadline <= self.clock()]
        self.happened["expirations"] += len(over)
        self.rows = [row for row in self.rows if row not in over]

    def row(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)

    def use(self, row: Row) -> None:
        row.uses += 1
        row.used = self.calls

    def get(self, key: str) -> int | Miss:
        row = self.row(key)
        self.happened["misses" if row is None else "hits"] += 1
        if row is None:
            return MISS
        self.use(row)
        return row.value

    def peek(self, key: str) -> int | Miss:
        row = self.row(key)
        return MISS if row is None else row.value

    def touch(self, key: str) -> bool:
        row = self.row(key)
        if row is not None:
            self.use(row)
        return row is not None

    def set(self, key: str, value: int, size: int, ttl: float | None) -> bool:
        """Returns whether the value is small enough."""
        return self.put(key, value, size, None if ttl is None else self.clock() + ttl)

    def put(self, key: str, value: int, size: int, deadline: float | None) -> bool:
        if self.max_bytes is not None and size > self.max_bytes:
            return False
        while not self.fits(key, size):
            goes = min(self.rows, key=self.order)
            self.rows.remove(goes)
            self.happened["evictions"] += goes.key != key
        row = self.row(key)
        if row is None:
            row = Row(key, value, size, deadline, uses=0, used=0, set=0)
            self.rows.append(row)
        row.value, row.size, row.deadline, row.set = value, size, deadline, self.calls
        self.use(row)
        self.happened["sets"] += 1
        return True

    def fits(self, key: str, size: int) -> bool:
        others = [row for row in self.rows if row.key != key]
        entries = len(others) + 1 <= self.max_entries
        return entries and (self.max_bytes is None or sum(row.size for row in others) + size <= self.max_bytes)

    def order(self, row: Row) -> tuple[int, ...]:
        """What goes first has the least."""
        return {"lru": (row.used,), "lfu": (row.uses, row.used), "fifo": (row.set,)}[self.policy]

    def add(self, key: str, value: int, size: int, ttl: float | None) -> bool | None:
        """None: the value is too large."""
        if self.row(key) is not None:
            return False
        return self.set(key, value, size, ttl) or None

    def replace(self, key: str, value: int, size: int) -> bool | None:
        row = self.row(key)
        if row is None:
            return False
        return self.put(key, value, size, row.deadline) or None

    def expire(self, key: str, ttl: float | None) -> bool:
        row = self.row(key)
        if row is not None:
            row.deadline = None if ttl is None else self.clock() + ttl
        return row is not None

    def discard(self, key: str) -> bool:
        row = self.row(key)
        if row is not None:
            self.rows.remove(row)
        return row is not None

    def delete(self, key: str) -> bool:
        deleted = self.discard(key)
        self.happened["deletes"] += deleted
        return deleted

    def clear(self) -> int:
        cleared = len(self.rows)
        self.happened["deletes"] += cleared
        self.rows.clear()
        return cleared
