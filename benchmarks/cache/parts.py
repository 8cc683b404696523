"""What the parts of the benchmark are told, and what each of them finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Promise, Table


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    seed: int
    databases: Sequence[str]
    rounds: int
    batches: int
    """In each round, of an operation on a cache in memory."""
    sizes: Sequence[int]
    weighed: int
    """Entries of the caches that are weighed."""
    things: int
    """Keys of the trace, and products of the catalog, which are asked for by their popularity."""
    looks: int
    """The length of the trace by which hits are counted."""
    turns: int
    reads: int
    """Of the catalog by use case, in each of so many turns; over gRPC there are half as many."""
    herds: int
    processes: int
    """That have a herd each at the same moment."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a part found."""

    tables: Sequence[Table]
    promises: Sequence[Promise] = ()
