"""From the endpoints that may be picked to a picker: effective weights, the own zone first, the policy's picker.

A picker is made anew only if something is new for it, since one that is half through its cycle is worth keeping.

**Slow start.** An endpoint that joins others gets a share that grows with its age (`slow_start`). Weights are whole
numbers, so while anyone warms up all of them are counted in tenths.

**Zones.** If we know where we are, endpoints of the own zone and of the others have a picker each, and `zones` decides
how much of the calls stays.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any, Generic, Protocol, TypeVar

from grpc_balancer.load import Load
from grpc_balancer.pickers.contract import CallInfo, PickerFactory
from grpc_balancer.rules import Rules
from grpc_balancer.slow_start import TENTHS, tenths
from grpc_balancer.zones import ZonePicker, local_share
from grpc_registry import Instance


class Selectable(Protocol):
    instance: Instance
    weight: int
    load: Load


E = TypeVar("E", bound=Selectable)


class Selection(Generic[E]):
    """Makes the pickers of one service."""

    def __init__(self, policy: PickerFactory, rng: random.Random, rules: Rules) -> None:
        self.policy = policy
        self._rng = rng
        self._rules = rules
        self._ready_since: dict[E, float] = {}  # the longest first
        self._warming: set[E] = set()
        self._made_for: tuple[object, ...] = ()
        self._picker: Any = None
        self.candidates: Sequence[E] = ()
        """Those of the last picker."""
        self.instances: tuple[Instance, ...] = ()
        """Theirs; the same tuple for as long as it says the same."""

    @property
    def is_warming(self) -> bool:
        """Whether weights change by the time alone."""
        return bool(self._warming)

    def became_ready(self, endpoint: E, now: float) -> None:
        """The endpoint may be picked from now on. It warms up if another one is warm, that can help it.

        Nothing changes if it was ready before and is not `lost` since.
        """
        if endpoint in self._ready_since:
            return
        window = self._rules.slow_start
        longest = next(iter(self._ready_since.values()), now)
        self._ready_since[endpoint] = now
        if window and now - longest >= window:
            self._warming.add(endpoint)

    def lost(self, endpoint: E) -> None:
        """The endpoint may not be picked any more."""
        self._ready_since.pop(endpoint, None)
        self._warming.discard(endpoint)

    def picker(self, eligible: Sequence[E], registered: Collection[Instance], now: float) -> Any:
        """The picker for `eligible`, None if there are none; `registered` are all that serve by the registry's word."""
        weights = self._weights(eligible, now)
        share = self._share_of_zone(eligible, registered)
        made_for = (
            self.policy,
            share,
            tuple((one, one.instance, weight) for one, weight in zip(eligible, weights, strict=True)),
        )
        if made_for != self._made_for:
            for endpoint, weight in zip(eligible, weights, strict=True):
                endpoint.weight = weight
            self._picker = self._make(eligible, share) if eligible else None
            self._made_for, self.candidates = made_for, eligible
            if (instances := tuple(one.instance for one in eligible)) != self.instances:
                self.instances = instances
        return self._picker

    def pick_excluding(self, call: CallInfo, excluded: Collection[E]) -> E | None:
        """A pick among the candidates that are not in `excluded`, if there are any."""
        exclude = getattr(self._picker, "pick_excluding", None)
        if exclude is not None:
            picked: E | None = exclude(call, excluded)
            return picked
        left = [one for one in self.candidates if one not in excluded]
        return self.picker_of(left).pick(call) if left else None

    def owner(self, call: CallInfo) -> E | None:
        """Whose a call like that is by its key; None if it has no key, or nobody is there.

        Raises:
            LookupError: the policy goes by no key.
        """
        if self._picker is None:
            return None
        find = getattr(self._picker, "owner", None)
        if find is None:
            raise LookupError(f"{self._picker!r} goes by no key, so a call has no owner")
        owner: E | None = find(call)
        return owner

    def picker_of(self, endpoints: Sequence[E]) -> Any:
        """A picker for one pick among those that `picker` left out."""
        return self.policy(endpoints, self._rng)

    def scores(self, call: CallInfo) -> dict[E, float]:
        """What the policy thinks of each candidate for that call: the least is the best. Empty if it does not say."""
        if self._picker is None or not hasattr(self._picker, "scores"):
            return {}
        return dict(zip(self._picker.candidates, self._picker.scores(call), strict=True))

    def _weights(self, eligible: Sequence[E], now: float) -> list[int]:
        window = self._rules.slow_start
        self._warming = {one for one in self._warming if now - self._ready_since[one] < window}
        if not self._warming:
            return [one.instance.weight for one in eligible]
        return [
            one.instance.weight * (tenths(now - self._ready_since[one], window) if one in self._warming else TENTHS)
            for one in eligible
        ]

    def _share_of_zone(self, eligible: Sequence[E], registered: Collection[Instance]) -> float:
        zone = self._rules.zone
        if not zone:
            return 0.0
        return local_share(
            sum(one.instance.weight for one in eligible if one.instance.zone == zone),
            sum(instance.weight for instance in registered if instance.zone == zone),
        )

    def _make(self, eligible: Sequence[E], share: float) -> Any:
        near = [one for one in eligible if one.instance.zone == self._rules.zone]
        far = [one for one in eligible if one.instance.zone != self._rules.zone]
        if not (self._rules.zone and near and far):
            return self.policy(eligible, self._rng)
        return ZonePicker(self.policy(near, self._rng), self.policy(far, self._rng), share)
