"""Picking the best by a comparison: what `least_outstanding` and `peak_ewma` have in common.

How to choose (all compared, or the better of two) is theirs alike; what to compare is each one's own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from grpc_balancer.pickers.contract import Candidate, Picker, PickerFactory
from grpc_balancer.pickers.excluding import SCAN_AT_MOST, Excluding
from grpc_balancer.pickers.sampling import WeightedSampler, per_weight


class Compared(Excluding):
    """A picker that looks at the loads of candidates, in proportion to their weights."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        self._random = rng.random
        self._loads = [candidate.load for candidate in candidates]
        self._per_weight = per_weight([candidate.weight for candidate in candidates])


class Drawing(Compared):
    """One that compares two, drawn by weight."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        self._draw = WeightedSampler([candidate.weight for candidate in candidates], rng)


def few_or_many(candidates: Sequence[Candidate], rng: random.Random, few: PickerFactory, many: PickerFactory) -> Picker:
    """The picker for that many candidates."""
    return (few if len(candidates) <= SCAN_AT_MOST else many)(candidates, rng)
