"""The gates would notice: with a part of the production code taken away, what they look at is wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from grpc_balancer import load, pickers, selection
from grpc_balancer.pickers import CallInfo, Candidate
from grpc_balancer.slow_start import TENTHS
from tests.simulation.gates import run, run_anew
from tests.simulation.test_policies import FAST_FAILING, FROZEN, ONE_SLOW, SCALE_OUT


class MostOutstanding:
    """A comparison the wrong way round."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        self._candidates = candidates
        self._rng = rng

    def pick(self, call: CallInfo) -> Candidate:
        return max(self._rng.sample(self._candidates, 2), key=lambda candidate: candidate.load.count)


class NewestFirst(MostOutstanding):
    """An average that begins at zero: the newest is the best until its first answers."""

    def pick(self, call: CallInfo) -> Candidate:
        newest = self._candidates[-1]
        return newest if newest.load.count < 4 else self._rng.choice(self._candidates)


@pytest.fixture(autouse=True, scope="module")
def wrong_policies() -> Iterator[None]:
    """Policies that are wrong, known by name for as long as these tests run."""
    pickers.register_policy("most_outstanding", MostOutstanding)
    pickers.register_policy("newest_first", NewestFirst)
    yield
    for name in ("most_outstanding", "newest_first"):
        del pickers._policies[name]


def test_without_penalty_who_fails_fast_attracts_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the penalty that keeps calls away from who fails fast; else it gets more than its fair share."""
    monkeypatch.setattr(load.Load, "penalty", 0.0)
    share = run_anew("fast_failing", "least_outstanding", **FAST_FAILING).odd_share
    assert share is not None
    assert share > 1.0


def test_a_comparison_the_wrong_way_round_shows() -> None:
    """A picker of the busier endpoint passes neither the gate of a slow server nor that of a frozen one."""
    slow = run_anew("one_slow", "most_outstanding", **ONE_SLOW)
    assert run("one_slow", "round_robin", **ONE_SLOW).p99 < 6 * slow.p99
    frozen = run_anew("frozen", "most_outstanding", **FROZEN)
    assert frozen.failed > run("frozen", "round_robin", **FROZEN).failed / 10


def test_a_flooded_newcomer_shows() -> None:
    """A picker that prefers whoever is new gives it more than its fair share at once."""
    share = run_anew("scale_out", "newest_first", **SCALE_OUT).odd_share
    assert share is not None
    assert share > 1.0


def test_without_slow_start_a_newcomer_gets_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slow start that keeps a newcomer's share small."""
    monkeypatch.setattr(selection, "tenths", lambda age, window: TENTHS)
    share = run_anew("scale_out", "least_outstanding+slow_start", **SCALE_OUT).odd_share
    assert share is not None
    assert share > 1 / 3
