"""The policies, by name. A policy makes a picker for each set of endpoints; `contract` says what that is."""

from __future__ import annotations

from grpc_balancer.pickers.contract import CallInfo, Candidate, Picker, PickerFactory
from grpc_balancer.pickers.least_outstanding import least_outstanding
from grpc_balancer.pickers.pick_first import PickFirst
from grpc_balancer.pickers.random import Random
from grpc_balancer.pickers.round_robin import RoundRobin
from grpc_balancer.pickers.weighted_round_robin import WeightedRoundRobin

__all__ = ["CallInfo", "Candidate", "Picker", "PickerFactory", "policies", "policy_named", "register_policy"]

_policies: dict[str, PickerFactory] = {
    "least_outstanding": least_outstanding,
    "pick_first": PickFirst,
    "random": Random,
    "round_robin": RoundRobin,
    "weighted_round_robin": WeightedRoundRobin,
}


def policies() -> list[str]:
    """The names of all policies, in alphabetical order."""
    return sorted(_policies)


def register_policy(name: str, factory: PickerFactory) -> None:
    """Make `factory` known to every channel made after this as the policy `name`.

    Raises:
        ValueError: the name is empty, or another policy has it.
    """
    if not name:
        raise ValueError("the name of a policy is empty")
    if _policies.setdefault(name, factory) is not factory:
        raise ValueError(f"policy {name!r} is registered already")


def policy_named(name: str) -> PickerFactory:
    """The policy of that name. Raises `ValueError`, naming those known."""
    try:
        return _policies[name]
    except (KeyError, TypeError):
        raise ValueError(f"unknown policy {name!r}; known: {', '.join(policies())}") from None
