"""`pick_first`: one endpoint for everything, while it stays connected."""

from __future__ import annotations

import random
from collections.abc import Sequence

from grpc_balancer.pickers.contract import CallInfo, Candidate


class PickFirst:
    """The endpoint that has been connected the longest; so a newcomer, or one that returns, never takes calls away.

    Unlike gRPC's policy of that name the other endpoints are connected too, ready to take over at once.
    """

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        self._first = candidates[0]

    def pick(self, call: CallInfo) -> Candidate:
        return self._first

    def __repr__(self) -> str:
        return f"<PickFirst {self._first!r}>"
