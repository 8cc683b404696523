from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from grpc_balancer.pickers import (
    CallInfo,
    Candidate,
    PickerFactory,
    policies,
    policy_named,
    policy_of,
    register_policy,
)
from grpc_registry.service_config import Balancing, RingHash
from tests.unit.client.candidates import CALL, candidates, picks


def test_unknown_policies_are_refused_by_name() -> None:
    """The error names what was asked for and what there is."""
    with pytest.raises(ValueError, match=r"unknown policy 'fastest'; known: least_outstanding, .*pick_first"):
        policy_named("fastest")


def test_a_policy_of_ones_own_can_be_named() -> None:
    """A registered factory is found by its name; another cannot take that name, the same one may come again."""

    class Last:
        def __init__(self, endpoints: Sequence[Candidate], rng: random.Random) -> None:
            self._last = endpoints[-1]

        def pick(self, call: CallInfo) -> Candidate:
            return self._last

    register_policy("test_last", Last)
    register_policy("test_last", Last)
    assert "test_last" in policies()
    assert set(picks("test_last", candidates(1, 1, 1), 5)) == {"e2"}
    with pytest.raises(ValueError, match="registered already"):
        register_policy("test_last", policy_named("random"))
    with pytest.raises(ValueError, match="registered already"):
        register_policy("test_last", Last, configure=lambda settings: Last)
    with pytest.raises(ValueError, match="empty"):
        register_policy("", Last)


def test_settings_reach_a_policy() -> None:
    """A service config's settings make the factory: those of the parser for ring_hash, the JSON for one's own."""

    def at(settings: Mapping[str, Any]) -> PickerFactory:
        if not isinstance(settings.get("index"), int):
            raise ValueError(f"index {settings.get('index')!r}: a whole number")

        class At:
            def __init__(self, endpoints: Sequence[Candidate], rng: random.Random) -> None:
                self._one: Candidate = endpoints[settings["index"]]

            def pick(self, call: CallInfo) -> Candidate:
                return self._one

        return At

    register_policy("test_at", at({"index": 0}), configure=at)
    endpoints = candidates(1, 1, 1)

    def picked(balancing: Balancing) -> str:
        return policy_of(balancing)(endpoints, random.Random()).pick(CALL).instance.id

    assert picked(Balancing("test_at")) == picked(Balancing("test_at", {})) == "e0"
    assert picked(Balancing("test_at", {"index": 2})) == "e2"
    with pytest.raises(ValueError, match="index None: a whole number"):
        policy_of(Balancing("test_at", {"other": 1}))
    ring = policy_of(Balancing("ring_hash", RingHash("x-user", 66, 128)))(endpoints, random.Random())
    assert repr(ring) == "<RingHash of 3, 66 points, by x-user>"


def test_settings_for_a_policy_that_has_none_are_refused() -> None:
    """The error names the policy and what it was given."""
    with pytest.raises(ValueError, match=r"policy 'random' takes no settings, but was given \{'size': 3\}"):
        policy_of(Balancing("random", {"size": 3}))
