"""`random`: any endpoint, with a chance proportional to its weight."""

from __future__ import annotations

import random
from collections.abc import Sequence

from grpc_balancer.pickers.contract import CallInfo, Candidate
from grpc_balancer.pickers.excluding import Excluding
from grpc_balancer.pickers.sampling import WeightedSampler


class Random(Excluding):
    """Needs no state, and so spreads well over many clients with few calls each."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        self._draw = WeightedSampler([candidate.weight for candidate in candidates], rng)

    def pick(self, call: CallInfo) -> Candidate:
        return self.candidates[self._draw()]

    def __repr__(self) -> str:
        return f"<Random of {len(self.candidates)}>"
