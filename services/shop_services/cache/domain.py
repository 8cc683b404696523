"""The words of the cache: a namespace, an entry, and what became of a compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass

from shop_services.caching.bounded import Policy


@dataclass(frozen=True, slots=True)
class Namespace:
    """A part of the cache with rules of its own: which value makes room, how much an instance keeps, for how long.

    `policy` is None and the limits are 0 where another store, a Redis, decides. `ttl`, in nanoseconds, is that of
    values which have none of their own; None: such a value stays until it is deleted or evicted. What Python needs
    around an entry (about 500 bytes) is not counted in `max_bytes`.
    """

    name: str
    policy: Policy | None = None
    max_entries: int = 0
    max_bytes: int = 0
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached value. `expires` is in nanoseconds since the Unix epoch; None: it has no such time."""

    key: str
    value: bytes
    version: int
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """What a compare-and-set did. `version` is that of the value which is there now; 0: there is none."""

    swapped: bool
    version: int


def size(key: str, value: bytes) -> int:
    """How many bytes an entry counts for: its key as UTF-8, and its value."""
    return len(key.encode()) + len(value)
