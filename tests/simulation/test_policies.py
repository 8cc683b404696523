"""Regression gates: what each policy is chosen for, in small simulations of the production code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.gates import run

STEADY: dict[str, Any] = {"servers": 10, "clients": 5, "calls_per_second": 2_000.0, "seconds": 5.0}
ONE_SLOW: dict[str, Any] = {"seconds": 40.0, "odd_window": (2.0, 40.0)}
FAST_FAILING: dict[str, Any] = {"seconds": 5.0, "calls_per_second": 2_000.0, "odd_window": (2.0, 5.0)}
FROZEN: dict[str, Any] = {"seconds": 7.0, "calls_per_second": 2_000.0, "clients": 4, "odd_window": (4.5, 7.0)}
SCALE_OUT: dict[str, Any] = {"slots": 2, "clients": 5, "calls_per_second": 1_400.0, "seconds": 5.0}
ROLLING: dict[str, Any] = {"servers": 6, "clients": 4, "calls_per_second": 1_000.0, "seconds": 11.0}

LOOKING = ("least_outstanding", "peak_ewma")
"""The policies that look at how endpoints do."""


@pytest.mark.parametrize("policy", ["round_robin", "random", *LOOKING, "ring_hash"])
def test_equal_servers_get_equal_parts(policy: str) -> None:
    """Among equals every policy is fair, and no call fails."""
    result = run("steady", policy, **STEADY)
    assert result.failed == 0
    assert result.jain > 0.97


@pytest.mark.parametrize("policy", ["weighted_round_robin", "random", "least_outstanding"])
def test_calls_follow_weights(policy: str) -> None:
    """With servers as fast as their weights say, each gets its weight's part."""
    assert run("weighted", policy, servers=10, calls_per_second=1_500.0, seconds=6.0).jain > 0.98


@pytest.mark.parametrize("policy", LOOKING)
def test_a_slow_server_hardly_shows_in_the_tail(policy: str) -> None:
    """With one of eight servers ten times slower, the p99 of round_robin is at least six times as long."""
    assert run("one_slow", "round_robin", **ONE_SLOW).p99 >= 6 * run("one_slow", policy, **ONE_SLOW).p99


def test_peak_ewma_shuns_a_slow_server_more_than_least_outstanding() -> None:
    """Latency tells of a slow server before calls have piled up there."""
    assert run("one_slow", "peak_ewma", **ONE_SLOW).p99 < run("one_slow", "least_outstanding", **ONE_SLOW).p99


@pytest.mark.parametrize("policy", LOOKING)
def test_who_fails_fast_does_not_look_idle(policy: str) -> None:
    """A server that fails at once gets less than a quarter of its fair share, without any ejection."""
    share = run("fast_failing", policy, **FAST_FAILING).odd_share
    assert share is not None
    assert share < 0.25


def test_who_fails_fast_is_ejected() -> None:
    """With outlier detection round_robin, which sees nothing, leaves the failing server out as well."""
    blind = run("fast_failing", "round_robin", **FAST_FAILING)
    seeing = run("fast_failing", "round_robin+outlier", **FAST_FAILING)
    assert blind.odd_share == pytest.approx(1.0, abs=0.1)
    assert seeing.odd_share == 0.0
    assert seeing.attempts < blind.attempts


@pytest.mark.parametrize("policy", LOOKING)
def test_a_frozen_server_costs_few_calls(policy: str) -> None:
    """Calls that hang keep others away: of those that round_robin loses, hardly any."""
    lost = run("frozen", "round_robin", **FROZEN).failed
    assert lost > 100
    assert run("frozen", policy, **FROZEN).failed < lost / 10


def test_hedging_loses_no_call_to_a_frozen_server() -> None:
    """A call that hangs is sent elsewhere, at the price of few attempts."""
    result = run("frozen", "least_outstanding+hedging", **FROZEN)
    assert result.failed == 0
    assert result.attempts < 1.02 * result.calls


@pytest.mark.parametrize("policy", LOOKING)
def test_a_newcomer_is_not_flooded(policy: str) -> None:
    """In its first second a new server gets at most its fair share; with slow start at most a third of it."""
    share, slow_share = (run("scale_out", policy + slow, **SCALE_OUT).odd_share for slow in ("", "+slow_start"))
    assert share is not None
    assert slow_share is not None
    assert share <= 1.0
    assert 0.0 < slow_share <= 1 / 3


@pytest.mark.parametrize("policy", ["round_robin", "random", *LOOKING, "ring_hash"])
def test_a_rolling_restart_fails_no_call(policy: str) -> None:
    """Servers that drain before they stop cost nobody a call, whatever the policy."""
    assert run("rolling_restart", policy, **ROLLING).failed == 0


@pytest.mark.parametrize("policy", ["round_robin", "least_outstanding"])
def test_crashes_fail_no_call_that_may_be_retried(policy: str) -> None:
    """A call whose server dies succeeds at another one."""
    result = run("crashes", policy, seconds=6.0)
    assert result.failed == 0
    assert result.attempts > result.calls


def test_calls_stay_in_the_zone_and_leave_it_as_it_shrinks() -> None:
    """Own zone first saves the way across; with half a zone dead, 70% of its clients' calls stay there."""
    smaller: dict[str, Any] = {"seconds": 7.5, "odd_window": (5.5, 7.5), "calls_per_second": 1_500.0}
    everywhere = run("zones", "least_outstanding", **smaller)
    near = run("zones", "least_outstanding+zone", **smaller)
    assert everywhere.p50 - near.p50 > 0.000_5
    assert near.failed == 0
    assert near.odd_share == pytest.approx(1.4 / 2, abs=0.05)


@pytest.mark.parametrize("policy", [*LOOKING, "least_outstanding+subset"])
def test_many_clients_do_not_herd(policy: str) -> None:
    """Clients that know nothing of each other crowd no server much more than picks at random would."""
    smaller: dict[str, Any] = {"servers": 20, "clients": 100, "calls_per_second": 2_800.0, "seconds": 5.0}
    assert run("many_clients", policy, **smaller).herding < 1.4 * run("many_clients", "random", **smaller).herding
