"""`round_robin`: each endpoint in turn, weights ignored."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from grpc_balancer.pickers.contract import CallInfo, Candidate
from grpc_balancer.pickers.excluding import Excluding


class RoundRobin(Excluding):
    """Every endpoint once in every cycle.

    Starts at a random endpoint, as grpc-go's does, lest all clients begin with the same one after every change.
    """

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        start = rng.randrange(len(candidates))
        self._cycle = itertools.cycle([*candidates[start:], *candidates[:start]])

    def pick(self, call: CallInfo) -> Candidate:
        return next(self._cycle)

    def __repr__(self) -> str:
        return f"<RoundRobin of {len(self.candidates)}>"
