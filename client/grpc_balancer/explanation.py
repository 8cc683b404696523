"""What the balancer would say if it were asked about a pick: every instance, how it stands, why it is in or out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grpc_balancer.load import Load
from grpc_registry import Instance


class Considerable(Protocol):
    """What is told of an endpoint."""

    @property
    def instance(self) -> Instance: ...

    @property
    def weight(self) -> int: ...

    @property
    def load(self) -> Load: ...


@dataclass(frozen=True, slots=True)
class Considered:
    """One instance, seen for a pick."""

    instance: Instance
    weight: int
    """The effective one, relative to the others'. Not the registered one while a newcomer warms up."""
    outstanding: int
    penalty: float
    """What recent failures weigh, in calls outstanding."""
    score: float | None
    """The policy's, the least is the best; None if the policy has none, or the instance is no candidate."""
    left_out: str
    """Why it is no candidate; empty if it is one."""
    picked: bool = False

    @classmethod
    def of(cls, endpoint: Considerable, left_out: str, score: float | None, *, picked: bool = False) -> Considered:
        """An instance with an endpoint."""
        load = endpoint.load
        return cls(endpoint.instance, endpoint.weight, load.count, load.penalty, score, left_out, picked)

    @classmethod
    def unopened(cls, instance: Instance) -> Considered:
        """An instance without one."""
        return cls(instance, instance.weight, 0, 0.0, None, "not among this client's max_endpoints")

    def __str__(self) -> str:
        penalty = f" +{self.penalty:.1f}" if self.penalty else ""
        score = "" if self.score is None else f", score {self.score:.3g}"
        mark = "->" if self.picked else "  "
        why = f": {self.left_out}" if self.left_out else ""
        return (
            f"{mark} {self.instance.id} {self.instance.address}, weight {self.weight}, "
            f"{self.outstanding}{penalty} outstanding{score}{why}"
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a pick for a call of `method` stands, or stood."""

    service: str
    policy: str
    method: str
    instances: Sequence[Considered]
    stale_for: float = 0.0
    """Seconds for which the registry was not heard of."""
    why_none: str = ""
    """What a call would be told if there is no candidate; empty if there is."""

    @property
    def picked(self) -> Instance | None:
        """The instance that got the call; None if nothing was picked."""
        return next((one.instance for one in self.instances if one.picked), None)

    @property
    def candidates(self) -> Sequence[Considered]:
        return [one for one in self.instances if not one.left_out]

    @property
    def left_out(self) -> Sequence[Considered]:
        return [one for one in self.instances if one.left_out]

    def __str__(self) -> str:
        stale = f", the registry was not heard of for {self.stale_for:.0f} s" if self.stale_for else ""
        number = len(self.candidates)
        call = f"{self.service} {self.method}".rstrip()
        head = f"{self.policy} for {call}: {number} candidate{'' if number == 1 else 's'}{stale}"
        if self.why_none:
            head += f"\n{self.why_none}"
        return "\n".join([head, *map(str, self.candidates), *map(str, self.left_out)])
