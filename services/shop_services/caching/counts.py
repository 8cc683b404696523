"""What a cache counts, and the value that is no value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Miss(Enum):
    """The type of `MISS`."""

    MISS = "MISS"

    def __repr__(self) -> str:
        return "MISS"


MISS: Final = Miss.MISS
"""There is no value. None is one: what is cached as None is a hit."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in a cache since it was made, and what it holds now.

    A look for a value is a hit or a miss; `exists` is neither. A set is each value stored, a delete each one removed by
    `delete` or `clear`. An eviction made room, an expiration is an entry whose time had come: it is counted when the
    entry is forgotten, at the latest when its room is needed. None: this cache cannot know it, as it shares a server.
    """

    hits: int = 0
    misses: int = 0
    sets: int = 0
    deletes: int = 0
    evictions: int | None = None
    expirations: int | None = None
    entries: int | None = None
    bytes: int | None = None

    @property
    def hit_ratio(self) -> float | None:
        """The share of looks that were hits, from 0 to 1; None before the first look."""
        looks = self.hits + self.misses
        return self.hits / looks if looks else None
