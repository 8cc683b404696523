"""The words of the cache: an entry, the limits, and the counts of a namespace."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One cached value. `expires` is in nanoseconds since the Unix epoch; None: it has no such time."""

    namespace: str
    key: str
    value: bytes
    version: int
    expires: int | None

    @property
    def size(self) -> int:
        """How many bytes the key and the value take."""
        return size(self.key, self.value)


def size(key: str, value: bytes) -> int:
    """How many bytes an entry counts for: its key as UTF-8, and its value."""
    return len(key.encode()) + len(value)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a store holds at most: entries, bytes of keys and values, and namespaces, each over all of it.

    What Python needs around an entry (about 500 bytes) is not counted in `bytes`.

    Raises:
        ValueError: a limit is less than 1; the message names it.
    """

    entries: int
    bytes: int
    namespaces: int

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ValueError(f"{limit.name} {getattr(self, limit.name)!r}: at least 1")


@dataclass(slots=True)
class Counts:
    """What a namespace holds now, and what happened in it since it was first asked for."""

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    sets: int = 0
    deletes: int = 0
    expirations: int = 0
    evictions: int = 0
