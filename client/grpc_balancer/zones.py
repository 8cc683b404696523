"""Calls stay in the own zone while it has the capacity, and spill into the others as it loses it, smoothly.

As Envoy's priorities do: a zone counts as whole while 1 / 1.4, about 71%, of its registered weight is available. Below
that its share shrinks in proportion, so that the instances which are left get no more than 1.4 times what is theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from grpc_balancer.pickers.contract import CallInfo, Candidate, Picker

OVERPROVISIONING = 1.4
"""Envoy's default overprovisioning factor."""


def local_share(available: int, registered: int) -> float:
    """The part of the calls that stays in a zone, 0 to 1.

    `available` is the weight of the zone's endpoints that may be picked, `registered` that of all its instances which
    this client uses. Endpoints that the registry does not list any more, but which serve, make a zone that is whole.
    """
    if registered <= 0:
        return 1.0 if available > 0 else 0.0
    return min(1.0, OVERPROVISIONING * available / registered)


class ZonePicker:
    """Gives `share` of the picks to one picker and the rest to another.

    By error diffusion, which is even in the small too: of any n picks in a row, n * `share` are local, give or take
    less than one. A draw for each call would come in bursts.
    """

    def __init__(self, local: Picker, remote: Picker, share: float) -> None:
        self._local: Any = local
        self._remote: Any = remote
        self._share = share
        self._due = 0.5
        self._scored: list[Any] = [picker for picker in (self._local, self._remote) if hasattr(picker, "scores")]

    @property
    def candidates(self) -> Sequence[Candidate]:
        """Those that have scores, in their order."""
        return [candidate for picker in self._scored for candidate in picker.candidates]

    def pick(self, call: CallInfo) -> Candidate:
        picked: Candidate = self._next().pick(call)
        return picked

    def pick_excluding(self, call: CallInfo, excluded: Collection[Candidate]) -> Candidate | None:
        """In the other zones if the one whose turn it is has nobody left."""
        first = self._next()
        picked = _pick_excluding(first, call, excluded)
        if picked is None:
            picked = _pick_excluding(self._remote if first is self._local else self._local, call, excluded)
        return picked

    def scores(self, call: CallInfo) -> Sequence[float]:
        """As the two pickers say; comparable within a zone."""
        return [score for picker in self._scored for score in picker.scores(call)]

    def _next(self) -> Any:
        self._due += self._share
        if self._due < 1:
            return self._remote
        self._due -= 1
        return self._local

    def __repr__(self) -> str:
        return f"<ZonePicker: {self._share:.0%} to {self._local!r}, else to {self._remote!r}>"


def _pick_excluding(picker: Any, call: CallInfo, excluded: Collection[Candidate]) -> Candidate | None:
    exclude = getattr(picker, "pick_excluding", None)
    if exclude is not None:
        picked: Candidate | None = exclude(call, excluded)
        return picked
    picked = picker.pick(call)  # a policy of somebody's own without that method has one chance
    return None if picked in excluded else picked
