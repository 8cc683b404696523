"""What reading through caches counts."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tier:
    """One cache. A hit is a read that it answered, a miss one that it did not, for whichever reason.

    `stale`: copies that were out of date, and so not used. `errors`: attempts that were not answered in time, or with
    something unreadable, or refused. `skipped`: attempts not made, as it failed just before, or is too slow, and values
    that are too large for it.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int = 0
    skipped: int = 0


@dataclass(slots=True)
class ReadCounts:
    """`loads`: calls of the source, early refreshes included; `load_errors`: those that raised or took too long.

    `waits`: reads of a key that joined a flight. `refreshes`: keys whose early refresh has begun, of which some find a
    newer shared copy, or another process at it, and need no load.
    """

    local: Tier = field(default_factory=Tier)
    shared: Tier = field(default_factory=Tier)
    loads: int = 0
    load_errors: int = 0
    waits: int = 0
    refreshes: int = 0

    def snapshot(self) -> ReadCounts:
        """These numbers as they are now."""
        return deepcopy(self)
