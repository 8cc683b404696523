"""`peak_ewma`: the endpoint that would be the first to answer, by its latency and by what it has in progress.

As in Finagle and linkerd: the cost is latency times the calls in progress, with this one. The latency is a peak EWMA
(`load`): it notices an endpoint that becomes slow with the first slow answer, before calls have piled up there, which
`least_outstanding` waits for. It needs calls whose latencies can be compared: if some methods of a service take a
thousand times as long as others, it sees endpoints that had other calls, not slower endpoints.

An endpoint that has not answered yet is taken to be as fast as those that it is compared with: a latency of 0 would
flood it until its first answer, and a constant would do that where the others are slower, and starve it where they are
faster. Recent failures count like calls in progress, and their latency counts only if it is a bad one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from grpc_balancer.pickers.compared import Compared, Drawing, few_or_many
from grpc_balancer.pickers.contract import CallInfo, Candidate, Picker


def peak_ewma(candidates: Sequence[Candidate], rng: random.Random) -> Picker:
    """The picker for that many candidates."""
    return few_or_many(candidates, rng, ScanAll, BetterOfTwo)


class PeakEwma(Compared):
    """What the two ways to look have in common."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        self._clock = candidates[0].load.clock

    def scores(self, call: CallInfo) -> Sequence[float]:
        """Seconds: the latency times the calls in progress, with one more, as at an endpoint of mean weight."""
        latencies = self._latencies()
        return [
            latency * (load.count + load.penalty + 1) * by_weight
            for latency, load, by_weight in zip(latencies, self._loads, self._per_weight, strict=True)
        ]

    def _latencies(self) -> list[float]:
        """Of all; where there is none, the median of those known stands in for it."""
        now = self._clock()
        latencies = [load.latency(now) for load in self._loads]
        if 0.0 in latencies:
            known = sorted(filter(None, latencies))
            typical = known[len(known) // 2] if known else 1.0
            return [latency or typical for latency in latencies]
        return latencies


class ScanAll(PeakEwma):
    """The least of latency * (outstanding + u) / weight over all, with a fresh random u of [0, 1) for each endpoint.

    u stands for the call to be placed, as in `least_outstanding`. Finagle's constant 1 would send every call of a
    client that makes one at a time to one of two endpoints, until that had a slow answer.
    """

    def pick(self, call: CallInfo) -> Candidate:
        draw = self._random
        least = float("inf")
        picked = self.candidates[0]
        for latency, load, by_weight, candidate in zip(
            self._latencies(), self._loads, self._per_weight, self.candidates, strict=True
        ):
            busy = load.count + load.penalty if load.failures else load.count
            cost = latency * (busy + draw()) * by_weight
            if cost < least:
                least, picked = cost, candidate
        return picked

    def __repr__(self) -> str:
        return f"<PeakEwma of {len(self.candidates)}, all compared>"


class BetterOfTwo(PeakEwma, Drawing):
    """The lesser cost of two different endpoints, drawn by weight; of equals, the first drawn.

    The weight is in the draw, so only calls in progress are counted by weight here, and the call to be placed is not.
    """

    def pick(self, call: CallInfo) -> Candidate:
        first, second = self._draw.two()
        load, other_load = self._loads[first], self._loads[second]
        now = self._clock()
        latency, other_latency = load.latency(now), other_load.latency(now)
        busy = load.count + load.penalty if load.failures else load.count
        other_busy = other_load.count + other_load.penalty if other_load.failures else other_load.count
        by_weight = self._per_weight
        cost = (latency or other_latency or 1.0) * (busy * by_weight[first] + 1)
        other_cost = (other_latency or latency or 1.0) * (other_busy * by_weight[second] + 1)
        return self.candidates[second if other_cost < cost else first]

    def __repr__(self) -> str:
        return f"<PeakEwma of {len(self.candidates)}, the better of two>"
