from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.load import Outcome
from grpc_balancer.pickers import policy_named
from grpc_balancer.pickers.excluding import SCAN_AT_MOST
from grpc_balancer.pickers.least_outstanding import BetterOfTwo, ScanAll
from tests.unit.client.candidates import CALL, candidates, picks, stopped


@given(loads=st.lists(st.integers(0, 50), min_size=1, max_size=SCAN_AT_MOST), seed=st.integers())
def test_few_equals_are_all_compared(loads: list[int], seed: int) -> None:
    """Among few endpoints of one weight, the picked one has the least load of all."""
    endpoints = candidates(*[100] * len(loads))
    for endpoint, load in zip(endpoints, loads, strict=True):
        endpoint.load.count = load
    picked = policy_named("least_outstanding")(endpoints, random.Random(seed)).pick(CALL)
    assert picked.load.count == min(loads)


def test_ties_are_broken_evenly() -> None:
    """Idle equals share the picks evenly."""
    shares = Counter(picks("least_outstanding", candidates(100, 100, 100), 9_000))
    assert min(shares.values()) > 2_800


def test_a_small_difference_of_weight_makes_a_small_difference() -> None:
    """At 101 against 100 the lighter one still gets close to half of the calls of an idle client."""
    shares = Counter(picks("least_outstanding", candidates(101, 100), 10_000))
    assert shares["e1"] > 4_700


def test_load_is_shared_by_weight() -> None:
    """Calls that stay open spread over the endpoints as their weights do."""
    endpoints = candidates(100, 200, 100)
    picker = policy_named("least_outstanding")(endpoints, random.Random(1))
    for _ in range(400):
        picker.pick(CALL).load.begin()
    counts = [endpoint.load.count for endpoint in endpoints]
    assert counts == [pytest.approx(100, abs=2), pytest.approx(200, abs=2), pytest.approx(100, abs=2)]


def test_many_are_sampled_and_the_busier_of_two_is_left() -> None:
    """Among many endpoints the busiest is picked never, since it is always compared with another."""
    endpoints = candidates(*[100] * (SCAN_AT_MOST + 1))
    endpoints[3].load.count = 5
    assert "e3" not in picks("least_outstanding", endpoints, 5_000)


def test_many_follow_their_weights_when_idle() -> None:
    """Among many idle endpoints the picks follow the weights."""
    endpoints = candidates(*[100] * 10, *[300] * 10)
    shares = Counter(picks("least_outstanding", endpoints, 40_000))
    heavy = sum(shares[f"e{index}"] for index in range(10, 20))
    assert heavy == pytest.approx(30_000, abs=600)


def test_one_weight_above_all_others_is_still_compared() -> None:
    """An endpoint with nearly all the weight is left when it is busier, for its weight, than another."""
    endpoints = candidates(1_000_000, *[1] * 20)
    endpoints[0].load.count = 10_000_000
    shares = Counter(picks("least_outstanding", endpoints, 2_000))
    assert len(shares) == 20
    assert max(shares.values()) < 200


def test_the_picker_fits_the_number() -> None:
    """Up to eight endpoints are scanned, more are sampled, and the repr says which."""
    make = policy_named("least_outstanding")
    few, many = make(candidates(*[1] * SCAN_AT_MOST), random.Random()), make(candidates(*[1] * 9), random.Random())
    assert isinstance(few, ScanAll)
    assert isinstance(many, BetterOfTwo)
    assert repr(few) == "<LeastOutstanding of 8, all compared>"
    assert repr(many) == "<LeastOutstanding of 9, the better of two>"


@pytest.mark.parametrize("number", [SCAN_AT_MOST, SCAN_AT_MOST + 1])
def test_failures_count_like_calls_in_progress(number: int) -> None:
    """An idle endpoint that failed three calls gets none while others have one each, of few and of many."""
    endpoints = candidates(*[100] * number, clock=stopped)
    for endpoint in endpoints[1:]:
        endpoint.load.begin()
    for _ in range(3):
        endpoints[0].load.record(Outcome.FAILED, 0.001)
    assert "e0" not in picks("least_outstanding", endpoints, 500)


@pytest.mark.parametrize("number", [SCAN_AT_MOST, SCAN_AT_MOST + 1])
def test_what_is_left_of_an_old_failure_costs_a_part(number: int) -> None:
    """With a quarter of a failure left, an idle endpoint has fewer calls than other idle ones, but some."""
    now = 0.0
    endpoints = candidates(*[100] * number, clock=lambda: now)
    endpoints[0].load.record(Outcome.FAILED, 0.001)
    now = 4.0
    share = picks("least_outstanding", endpoints, 8_000).count("e0") * number / 8_000
    assert 0.02 < share < 0.9


def test_scores_are_load_by_weight() -> None:
    """Scores are calls in progress as at the mean weight, in the order of the candidates, failures among them."""
    endpoints = candidates(100, 300, clock=stopped)
    for endpoint in endpoints:
        endpoint.load.count = 3
    endpoints[1].load.record(Outcome.FAILED, 0.001)
    picker = policy_named("least_outstanding")(endpoints, random.Random())
    assert isinstance(picker, ScanAll)
    assert picker.candidates == endpoints
    assert list(picker.scores(CALL)) == [pytest.approx(6), pytest.approx(4 * 200 / 300, rel=1e-3)]
