"""`least_outstanding`: the endpoint with the fewest calls in progress for its weight.

Slow or stuck endpoints hold their calls for longer, so they get fewer new ones, without anyone measuring anything.
Recent failures count like calls in progress (`load` says why), lest an endpoint that fails fast looks idle.

Few endpoints are all looked at; among many, the better of two is taken. gRFC A48 takes two random choices *with*
replacement, which among two endpoints finds the busier one a quarter of the time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from grpc_balancer.pickers.compared import Compared, Drawing, few_or_many
from grpc_balancer.pickers.contract import CallInfo, Candidate, Picker


def least_outstanding(candidates: Sequence[Candidate], rng: random.Random) -> Picker:
    """The picker for that many candidates."""
    return few_or_many(candidates, rng, ScanAll, BetterOfTwo)


class LeastOutstanding(Compared):
    """What the two ways to look have in common."""

    def scores(self, call: CallInfo) -> Sequence[float]:
        """The calls in progress, and what failures weigh, as they would be at an endpoint of mean weight."""
        return [(load.count + load.penalty) * by for load, by in zip(self._loads, self._per_weight, strict=True)]


class ScanAll(LeastOutstanding):
    """The least of (outstanding + u) / weight over all, with a fresh random u of [0, 1) for each endpoint.

    u stands for the call to be placed, which A48 and Envoy count as 1. With equal weights that is the same choice, ties
    broken evenly. With unequal ones a constant 1 would send *every* call of a client that makes one at a time to the
    heaviest, even at 101 against 100; with u each is picked, the heavier the oftener.
    """

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        self._scales = list(zip(self._loads, self._per_weight, candidates, strict=True))

    def pick(self, call: CallInfo) -> Candidate:
        draw = self._random
        least = float("inf")
        picked = self.candidates[0]
        for load, by_weight, candidate in self._scales:
            busy = load.count + load.penalty if load.failures else load.count
            score = (busy + draw()) * by_weight
            if score < least:
                least, picked = score, candidate
        return picked

    def __repr__(self) -> str:
        return f"<LeastOutstanding of {len(self.candidates)}, all compared>"


class BetterOfTwo(LeastOutstanding, Drawing):
    """The lesser of outstanding / weight of two different endpoints, drawn by weight; of equals, the first drawn.

    The weight is in the draw, so the comparison must not count it again for idle endpoints: hence no u here.
    """

    def pick(self, call: CallInfo) -> Candidate:
        first, second = self._draw.two()
        load, other_load = self._loads[first], self._loads[second]
        busy, other_busy = load.count, other_load.count
        # A penalty is rounded by chance, so that what is left of an old one costs an idle endpoint a part of its calls.
        if load.failures:
            busy += int(load.penalty + self._random())
        if other_load.failures:
            other_busy += int(other_load.penalty + self._random())
        by_weight = self._per_weight
        return self.candidates[second if other_busy * by_weight[second] < busy * by_weight[first] else first]

    def __repr__(self) -> str:
        return f"<LeastOutstanding of {len(self.candidates)}, the better of two>"
