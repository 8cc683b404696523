"""Picking once more, elsewhere: what a retry, a hedge or a full endpoint needs, for pickers that can just be asked."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from grpc_balancer.pickers.contract import CallInfo, Candidate

SCAN_AT_MOST = 8
"""Up to this many endpoints are all looked at: about 1 µs, against the 150 or more that a call costs its client."""

_ASKS = 4


class Excluding(ABC):
    """A picker whose next picks are others, mostly."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        self.candidates = candidates
        self._rng = rng

    @abstractmethod
    def pick(self, call: CallInfo) -> Candidate:
        """As `contract.Picker` has it."""

    def pick_excluding(self, call: CallInfo, excluded: Collection[Candidate]) -> Candidate | None:
        """A pick that is none of `excluded`; None if those are all.

        Few candidates get a picker for those left. Of many a few picks will find one; only if they do not, because
        nearly all or the heaviest are excluded, all are looked at.
        """
        if len(self.candidates) > SCAN_AT_MOST:
            for _ in range(_ASKS):
                picked = self.pick(call)
                if picked not in excluded:
                    return picked
        left = [candidate for candidate in self.candidates if candidate not in excluded]
        return type(self)(left, self._rng).pick(call) if left else None
