from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.pickers import CallInfo, Candidate, policy_named
from grpc_balancer.zones import OVERPROVISIONING, ZonePicker, local_share
from tests.unit.client.candidates import CALL, candidates


class OnlyOne:
    """A policy of somebody's own, with the least that a picker must have."""

    def __init__(self, endpoints: Sequence[Candidate], rng: random.Random) -> None:
        self._one = endpoints[0]

    def pick(self, call: CallInfo) -> Candidate:
        return self._one


def zoned(share: float, policy: str = "round_robin") -> ZonePicker:
    """e0 and e1 are here, e2, e3 and e4 elsewhere."""
    endpoints, rng = candidates(*[100] * 5), random.Random(1)
    make = policy_named(policy)
    return ZonePicker(make(endpoints[:2], rng), make(endpoints[2:], rng), share)


# How much stays


@pytest.mark.parametrize(
    ("available", "registered", "share"),
    [
        (400, 400, 1.0),
        (300, 400, 1.0),
        (200, 400, 0.7),
        (100, 400, 0.35),
        (0, 400, 0.0),
        (0, 0, 0.0),
        (100, 0, 1.0),
    ],
)
def test_a_zone_keeps_what_it_has_the_capacity_for(available: int, registered: int, share: float) -> None:
    """All calls stay down to 71% of the weight, then as many as give those left 1.4 times their part."""
    assert local_share(available, registered) == pytest.approx(share)


@given(registered=st.integers(1, 10**9), data=st.data())
def test_nobody_gets_more_than_the_zone_was_provisioned_for(registered: int, data: st.DataObject) -> None:
    """Whatever is left of a zone, its load by weight is at most 1.4 times what it was, and it changes smoothly."""
    available = data.draw(st.integers(1, registered))
    share = local_share(available, registered)
    assert 0 < share <= 1
    assert share / available <= OVERPROVISIONING / registered * (1 + 1e-9)
    assert share - local_share(available - 1, registered) <= OVERPROVISIONING / registered + 1e-9


# Who gets a call


@given(share=st.floats(0, 1), number=st.integers(1, 300), start=st.integers(0, 300))
def test_any_run_of_picks_has_its_share_at_home(share: float, number: int, start: int) -> None:
    """Of any n picks in a row n * share are local, give or take one."""
    picker = zoned(share)
    for _ in range(start):
        picker.pick(CALL)
    local = sum(picker.pick(CALL).instance.id in ("e0", "e1") for _ in range(number))
    assert abs(local - number * share) <= 1 + 1e-6


@pytest.mark.parametrize(("share", "expected"), [(1.0, {"e0", "e1"}), (0.0, {"e2", "e3", "e4"})])
def test_all_or_nothing_stays(share: float, expected: set[str]) -> None:
    """A zone that is whole lets no call out, one that has nothing keeps none."""
    picker = zoned(share)
    assert {picker.pick(CALL).instance.id for _ in range(1000)} == expected


@pytest.mark.parametrize("policy", ["round_robin", "least_outstanding", "ring_hash"])
def test_another_pick_goes_to_the_other_zones_when_the_own_one_is_used_up(policy: str) -> None:
    """A retry stays in the zone while there is an endpoint not tried, then leaves it, and in the end finds none."""
    picker = zoned(1.0, policy)
    tried: list[Candidate] = []
    while (picked := picker.pick_excluding(CALL, tried)) is not None:
        tried.append(picked)
    ids = [candidate.instance.id for candidate in tried]
    assert set(ids[:2]) == {"e0", "e1"}
    assert sorted(ids) == ["e0", "e1", "e2", "e3", "e4"]


def test_scores_are_those_of_both() -> None:
    """Scores come in the order of `candidates`, if the policy has any."""
    picker = zoned(0.5, "least_outstanding")
    for candidate in picker.candidates:
        candidate.load.count = int(candidate.instance.id[1:])
    assert [candidate.instance.id for candidate in picker.candidates] == ["e0", "e1", "e2", "e3", "e4"]
    assert picker.scores(CALL) == [0, 1, 2, 3, 4]
    unscored = zoned(0.5)
    assert not unscored.candidates
    assert not unscored.scores(CALL)


def test_a_policy_of_ones_own_need_not_know_of_zones() -> None:
    """A picker that only picks can be in both places."""
    endpoints, rng = candidates(100, 100), random.Random()
    picker = ZonePicker(OnlyOne(endpoints[:1], rng), OnlyOne(endpoints[1:], rng), 0.7)
    assert picker.pick_excluding(CALL, {endpoints[0]}) is endpoints[1]
    assert picker.pick_excluding(CALL, set(endpoints)) is None
    assert repr(zoned(0.7)) == "<ZonePicker: 70% to <RoundRobin of 2>, else to <RoundRobin of 3>>"
