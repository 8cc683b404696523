"""`weighted_round_robin`: each endpoint exactly as often as its weight says, its turns spread evenly.

Every endpoint of weight w has w turns in a lap, at evenly spaced moments of the lap, and the picks are all turns in
the order of their moments. So every lap is the same sequence, and any window as long as a lap (or several) holds each
endpoint exactly by its weight, wherever it begins. Weights are first divided by their greatest common divisor: three
endpoints of 100, 200 and 100 have laps of four picks.

Endpoints of one weight form a group, whose turns are evenly spaced as a whole and go to its members in order. The heap
that finds the next turn is as large as the number of *different* weights, mostly a few, so that a pick costs O(log of
that) and does not depend on how many endpoints there are.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence

from grpc_balancer.pickers.contract import CallInfo, Candidate
from grpc_balancer.pickers.excluding import Excluding


class _Group:
    """The endpoints of one weight. Turn t of a lap is at moment (t + 0.5) / turns, and goes to member t modulo size."""

    __slots__ = ("members", "turn", "turns")

    def __init__(self, members: Sequence[Candidate], weight: int) -> None:
        self.members = members
        self.turns = weight * len(members)
        self.turn = 0

    def moment(self) -> float:
        return (self.turn + 0.5) / self.turns

    def skip_to(self, moment: float) -> None:
        """Leave out the turns before `moment`."""
        self.turn = max(0, math.ceil(moment * self.turns - 0.5) - 1)
        while self.turn < self.turns and self.moment() < moment:
            self.turn += 1


class WeightedRoundRobin(Excluding):
    """Smooth weighted round robin. It enters the lap at a random moment, so that clients do not move in step."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        super().__init__(candidates, rng)
        divisor = math.gcd(*(candidate.weight for candidate in candidates))
        by_weight: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            by_weight.setdefault(candidate.weight // divisor, []).append(candidate)
        self._groups = [_Group(members, weight) for weight, members in sorted(by_weight.items(), reverse=True)]
        self._heap: list[tuple[int, float, int]] = []  # lap, moment of the group's next turn, group
        start = rng.random()
        for index, group in enumerate(self._groups):
            group.skip_to(start)
            lap, group.turn = divmod(group.turn, group.turns)
            self._heap.append((lap, group.moment(), index))
        heapq.heapify(self._heap)

    def pick(self, call: CallInfo) -> Candidate:
        # Laps are compared before moments, and moments are computed anew from whole numbers rather than added up:
        # rounding can swap neighbours, alike in every lap, but never add or lose a turn.
        heap = self._heap
        lap, _, index = heap[0]
        group = self._groups[index]
        members = group.members
        picked = members[group.turn % len(members)]
        group.turn += 1
        if group.turn == group.turns:
            group.turn = 0
            lap += 1
        heapq.heapreplace(heap, (lap, (group.turn + 0.5) / group.turns, index))
        return picked

    def __repr__(self) -> str:
        weights = ", ".join(f"{len(group.members)} of {group.turns // len(group.members)}" for group in self._groups)
        return f"<WeightedRoundRobin: {weights}>"
