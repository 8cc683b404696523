"""`least_outstanding`: the endpoint with the fewest calls in progress for its weight.

Slow or stuck endpoints hold their calls for longer, so they get fewer new ones, without anyone measuring anything.

Few endpoints are all looked at; among many, the better of two is taken. gRFC A48 takes two random choices *with*
replacement, which among two endpoints finds the busier one a quarter of the time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from grpc_balancer.pickers.contract import CallInfo, Candidate, Picker
from grpc_balancer.pickers.sampling import WeightedSampler

SCAN_AT_MOST = 8
"""Up to this many endpoints are all compared: about 1 µs, against the 150 or more that a call costs its client."""


def least_outstanding(candidates: Sequence[Candidate], rng: random.Random) -> Picker:
    """The picker for that many candidates."""
    if len(candidates) <= SCAN_AT_MOST:
        return ScanAll(candidates, rng)
    return BetterOfTwo(candidates, rng)


class ScanAll:
    """The least of (outstanding + u) / weight over all, with a fresh random u of [0, 1) for each endpoint.

    u stands for the call to be placed, which A48 and Envoy count as 1. With equal weights that is the same choice, ties
    broken evenly. With unequal ones a constant 1 would send *every* call of a client that makes one at a time to the
    heaviest, even at 101 against 100; with u each is picked, the heavier the oftener.
    """

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        self._random = rng.random
        self._scales = [(candidate.load, 1 / candidate.weight, candidate) for candidate in candidates]

    def pick(self, call: CallInfo) -> Candidate:
        draw = self._random
        least = float("inf")
        picked = self._scales[0][2]
        for load, per_weight, candidate in self._scales:
            score = (load.count + draw()) * per_weight
            if score < least:
                least, picked = score, candidate
        return picked

    def __repr__(self) -> str:
        return f"<LeastOutstanding of {len(self._scales)}, all compared>"


class BetterOfTwo:
    """The lesser of outstanding / weight of two different endpoints, drawn by weight; of equals, the first drawn.

    The weight is in the draw, so the comparison must not count it again for idle endpoints: hence no u here.
    """

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        self._random = rng.random
        self._scales = [(candidate.load, 1 / candidate.weight, candidate) for candidate in candidates]
        self._draw = WeightedSampler([candidate.weight for candidate in candidates], rng)

    def pick(self, call: CallInfo) -> Candidate:
        scales = self._scales
        first, second = self._draw(), self._draw()
        if first == second:  # then any other: one endpoint may have nearly all the weight, and be drawn again and again
            others = len(scales) - 1
            second = (first + 1 + int(self._random() * others)) % len(scales)
        load, per_weight, candidate = scales[first]
        other_load, other_per_weight, other = scales[second]
        return other if other_load.count * other_per_weight < load.count * per_weight else candidate

    def __repr__(self) -> str:
        return f"<LeastOutstanding of {len(self._scales)}, the better of two>"
