"""A durable log that keeps the latest record of each key: what a write-behind cache writes down before it answers.

On JetStream in production, in memory for tests and a shop in one process, under one contract suite. A key is written by
compare-and-set on the sequence of its latest record, so several writers cannot overwrite each other unseen. Everybody
may follow the log. A record that is done with is cleared: its place is taken by a marker, which vanishes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MAX_KEY = 1_024
"""Bytes of a key as UTF-8 at most."""

MAX_VALUE = 1024 * 1024 - 4_096
"""Bytes of a value at most: NATS' default `max_payload` of 1 MiB, less the room for headers."""

MARKER_AGE = 60.0
"""Seconds for which a cleared record stays to be seen."""

ABSENCE = 0.75
"""The part of a marker's age after which a follower that could not look begins anew: it may have missed markers."""

LOOK_EVERY = 0.1
"""Seconds between two looks of a follower that has nothing left to read."""

BATCH = 256
"""Records that a follower reads at a time at most."""


@dataclass(frozen=True, slots=True)
class Record:
    """The latest of `key`. `cleared`: its value is done with, and `value` is the note that was left instead."""

    key: str
    value: bytes
    sequence: int
    cleared: bool


@dataclass(frozen=True, slots=True)
class News:
    """What a follower has read: records in the order of their sequences, each newer than all that were read before.

    `as_of`: a time of the follower's clock (`time.monotonic`). What had been acknowledged then has been read, with this
    or before; whatever was replaced or has vanished meanwhile is left out. It is `-inf` until the whole log was read.
    """

    records: tuple[Record, ...]
    as_of: float


class Superseded(Exception):
    """The key's latest record is not the one that the writer thought; nothing was written. `latest` is what there is.

    None: there is no record, perhaps since a cleared one has vanished. Its sequence counts as 0 then.
    """

    def __init__(self, key: str, latest: Record | None) -> None:
        super().__init__(f"{key!r} is at sequence {latest.sequence if latest else 0}")
        self.latest = latest


class StartOver(Exception):
    """A follower must forget what it has read; its next `read` begins with the first record that there is.

    `lost`: since the log was wiped, and all that was in it. Else the follower was away for too long: records that it
    has read may have been cleared without a trace.
    """

    def __init__(self, reason: str, *, lost: bool) -> None:
        super().__init__(reason)
        self.lost = lost


class Follower(Protocol):
    """A place in the log, of one reader."""

    async def read(self) -> News:
        """The next records, or none when there is nothing new, 0.1 s after the look before.

        While the bus is away this waits, for ever: `as_of` of what was read last tells how old that is.

        Raises:
            StartOver: what was read before no longer tells about the log.
        """


class CompactedLog(Protocol):
    """A connection to a log. Making one never fails because the bus is away: it connects by itself, for ever."""

    async def put(self, key: str, value: bytes, *, after: int) -> int:
        """Make `value` the latest of `key` if `after` is the sequence of its latest record, 0 if it has none.

        Returns the record's sequence, when the bus has it on disk. What a lost acknowledgement leaves open is found
        out by writing the same again: no put is written twice.

        Raises:
            Superseded: the key is at another sequence. It may tell so of a put that was kept, if its acknowledgement
                was lost and others have put since.
            BusFull: the log holds as much as it may: as many keys, then those that are in it can still be put; or as
                many bytes, then none can. What is in it can be cleared in any case.
            BusUnavailable: the bus did not answer within 5 s. It may have kept the value, or keep it yet.
            ValueError: the key, the value or `after` is out of bounds.
        """

    async def clear(self, key: str, *, after: int, note: bytes = b"") -> int:
        """Put a marker with `note` in place of the record, as `put` does. It vanishes about a minute later."""

    async def latest(self, key: str) -> Record | None:
        """The latest record of the key, cleared or not: none that was acknowledged before this was called is missed.

        Raises:
            BusUnavailable: the bus did not answer within 5 s.
            ValueError: the key is out of bounds.
        """

    async def is_empty(self) -> bool:
        """Whether there are no records, cleared or not. Unlike everything else, this does not make the log.

        Raises:
            BusUnavailable: the bus did not answer within 5 s.
        """

    def follow(self) -> Follower:
        """A follower that begins with the first record that there is. It needs no closing."""

    async def close(self) -> None:
        """Close the connection. Idempotent."""


def check_key(key: str) -> None:
    """Raises `ValueError` if this is no key."""
    size = len(key.encode())
    if not 1 <= size <= MAX_KEY:
        raise ValueError(f"a key has 1 to {MAX_KEY:,} bytes, not {size:,}")


def check_put(key: str, value: bytes, after: int) -> None:
    """Raises `ValueError` if this cannot be put."""
    check_key(key)
    if len(value) > MAX_VALUE:
        raise ValueError(f"the value of {key!r} has {len(value):,} bytes: more than {MAX_VALUE:,}")
    if after < 0:
        raise ValueError(f"after must be a sequence, or 0 for none, not {after}")
