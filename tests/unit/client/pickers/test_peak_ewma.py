from __future__ import annotations

import random

import pytest

from grpc_balancer.load import Outcome
from grpc_balancer.pickers import policy_named
from grpc_balancer.pickers.excluding import SCAN_AT_MOST
from grpc_balancer.pickers.peak_ewma import BetterOfTwo, ScanAll
from tests.unit.client.candidates import CALL, candidates, picks
from tests.unit.client.virtual import exponentially, share, simulate

few_and_many = pytest.mark.parametrize("number", [SCAN_AT_MOST, SCAN_AT_MOST + 1])


@few_and_many
def test_the_slow_are_avoided_before_calls_pile_up(number: int) -> None:
    """An idle endpoint that answers ten times as slowly as the other idle ones gets a small part of its share."""
    endpoints = candidates(*[100] * number)
    for endpoint in endpoints:
        endpoint.load.record(Outcome.SUCCEEDED, 0.1 if endpoint is endpoints[0] else 0.01)
    assert picks("peak_ewma", endpoints, 8_000).count("e0") < 0.25 * 8_000 / number


@few_and_many
def test_calls_in_progress_outweigh_a_better_latency(number: int) -> None:
    """An endpoint that is twice as fast but has ten calls in progress is left to the idle ones."""
    endpoints = candidates(*[100] * number)
    for endpoint in endpoints:
        endpoint.load.record(Outcome.SUCCEEDED, 0.01 if endpoint is endpoints[0] else 0.02)
    endpoints[0].load.count = 10
    assert "e0" not in picks("peak_ewma", endpoints, 2_000)


@few_and_many
@pytest.mark.parametrize("latency", [0.0001, 0.01, 10.0])
def test_a_newcomer_is_neither_flooded_nor_starved(number: int, latency: float) -> None:
    """Without an answer yet an endpoint gets about its share, however fast the others are, also if calls stay."""
    endpoints = candidates(*[100] * number)
    for endpoint in endpoints[1:]:
        endpoint.load.record(Outcome.SUCCEEDED, latency)
    idle = picks("peak_ewma", endpoints, 8_000).count("e0") * number / 8_000
    assert 0.8 < idle < 1.2
    picker = policy_named("peak_ewma")(endpoints, random.Random(1))
    for _ in range(10 * number):
        picker.pick(CALL).load.begin()
    assert 8 <= endpoints[0].load.count <= 12


def test_what_was_slow_is_tried_again() -> None:
    """After a minute without calls an endpoint that was a hundred times slower has another chance."""
    now = 1000.0
    endpoints = candidates(100, 100, clock=lambda: now)
    endpoints[0].load.record(Outcome.SUCCEEDED, 1.0)
    endpoints[1].load.record(Outcome.SUCCEEDED, 0.01)
    assert picks("peak_ewma", endpoints, 500).count("e0") < 10
    now += 60
    endpoints[1].load.record(Outcome.SUCCEEDED, 0.01)
    assert picks("peak_ewma", endpoints, 500).count("e0") > 200


@pytest.mark.parametrize("number", [3, 8, 20])
def test_a_slow_server_gets_what_it_can_serve(number: int) -> None:
    """In a service with one server ten times slower that gets under half its fair share, the others share evenly."""
    servers = [exponentially(0.1), *[exponentially(0.01)] * (number - 1)]
    got = simulate("peak_ewma", servers, 40 * number, seconds=30, seed=2)
    assert share(got, 0, number) < 0.3
    others = [share(got, index, number) for index in range(1, number)]
    assert max(others) < 1.5 * min(others)


def test_scores_are_seconds_by_weight() -> None:
    """A score is latency times calls in progress with this one, as at the mean weight; newcomers take the median."""
    now = 0.0
    endpoints = candidates(100, 100, 400, clock=lambda: now)
    endpoints[0].load.record(Outcome.SUCCEEDED, 0.1)
    endpoints[2].load.record(Outcome.SUCCEEDED, 0.3)
    endpoints[1].load.count = 1
    picker = policy_named("peak_ewma")(endpoints, random.Random())
    assert isinstance(picker, ScanAll)
    assert list(picker.scores(CALL)) == pytest.approx([0.1 * 2, 0.3 * 2 * 2, 0.3 / 2])


def test_the_picker_fits_the_number() -> None:
    """Up to eight endpoints are scanned, more are sampled, and the repr says which."""
    make = policy_named("peak_ewma")
    few, many = make(candidates(*[1] * SCAN_AT_MOST), random.Random()), make(candidates(*[1] * 9), random.Random())
    assert isinstance(many, BetterOfTwo)
    assert repr(few) == "<PeakEwma of 8, all compared>"
    assert repr(many) == "<PeakEwma of 9, the better of two>"
