"""The policies, by name. A policy makes a picker for each set of endpoints; `contract` says what that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from grpc_balancer.pickers.contract import CallInfo, Candidate, Picker, PickerFactory
from grpc_balancer.pickers.least_outstanding import least_outstanding
from grpc_balancer.pickers.peak_ewma import peak_ewma
from grpc_balancer.pickers.pick_first import PickFirst
from grpc_balancer.pickers.random import Random
from grpc_balancer.pickers.ring_hash import Ring, ring_hash
from grpc_balancer.pickers.round_robin import RoundRobin
from grpc_balancer.pickers.weighted_round_robin import WeightedRoundRobin
from grpc_registry.service_config import POLICIES, Balancing

__all__ = [
    "CallInfo",
    "Candidate",
    "Picker",
    "PickerFactory",
    "policies",
    "policy_named",
    "policy_of",
    "register_policy",
]

Configure = Callable[[Any], PickerFactory]
"""Makes a factory of a policy's settings. Raises `ValueError` for settings that it cannot use."""


class _Policy(NamedTuple):
    factory: PickerFactory
    configure: Configure | None = None


_policies: dict[str, _Policy] = {
    "least_outstanding": _Policy(least_outstanding),
    "peak_ewma": _Policy(peak_ewma),
    "pick_first": _Policy(PickFirst),
    "random": _Policy(Random),
    "ring_hash": _Policy(Ring, ring_hash),
    "round_robin": _Policy(RoundRobin),
    "weighted_round_robin": _Policy(WeightedRoundRobin),
}


def policies() -> list[str]:
    """The names of all policies, in alphabetical order."""
    return sorted(_policies)


def uses_latency(name: str) -> bool:
    """Whether the policy may ask for `Candidate.load.latency`; it is measured only then. One of your own may."""
    return name == "peak_ewma" or name not in POLICIES


def register_policy(
    name: str, factory: PickerFactory, *, configure: Callable[[Mapping[str, Any]], PickerFactory] | None = None
) -> None:
    """Make `factory` known to every channel made after this as the policy `name`.

    `configure` makes a factory of the settings that a service config gives the policy: the JSON object beside its name
    in `loadBalancingConfig`. It raises `ValueError` for settings that it cannot use, and the config is then refused.
    Without it the policy takes no settings.

    Raises:
        ValueError: the name is empty, or another policy has it.
    """
    if not name:
        raise ValueError("the name of a policy is empty")
    policy = _Policy(factory, configure)
    if _policies.setdefault(name, policy) != policy:
        raise ValueError(f"policy {name!r} is registered already")


def policy_named(name: str) -> PickerFactory:
    """The policy of that name, without settings. Raises `ValueError`, naming those known."""
    return policy_of(Balancing(name))


def policy_of(balancing: Balancing) -> PickerFactory:
    """The policy that a service config asks for, with its settings.

    Raises:
        ValueError: no policy has that name, or it cannot use these settings.
    """
    try:
        factory, configure = _policies[balancing.policy]
    except (KeyError, TypeError):
        raise ValueError(f"unknown policy {balancing.policy!r}; known: {', '.join(policies())}") from None
    if not balancing.settings:
        return factory
    if configure is None:
        raise ValueError(f"policy {balancing.policy!r} takes no settings, but was given {balancing.settings!r}")
    return configure(balancing.settings)
