from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.load import Outcome
from grpc_balancer.pickers import policies, policy_named
from tests.unit.client.candidates import CALL, FakeCall, candidates, picks

BUILT_IN = [
    "least_outstanding",
    "peak_ewma",
    "pick_first",
    "random",
    "ring_hash",
    "round_robin",
    "weighted_round_robin",
]

every_policy = pytest.mark.parametrize("policy", BUILT_IN)
any_number = pytest.mark.parametrize("number", [1, 2, 8, 9, 100])


def test_these_are_all() -> None:
    """No policy comes without the tests here."""
    assert [policy for policy in policies() if not policy.startswith("test_")] == BUILT_IN


@every_policy
@any_number
def test_a_seed_repeats_exactly(policy: str, number: int) -> None:
    """The same seed gives the same picks, and, where chance has a part, another seed gives others."""
    weights = [1 + index % 5 for index in range(number)]
    once, again, *others = (picks(policy, candidates(*weights), 50, seed) for seed in (1, 1, 2, 3, 4, 5, 6))
    assert once == again
    if number > 1 and policy != "pick_first":
        assert any(once != other for other in others)


@every_policy
@any_number
@pytest.mark.parametrize("weights", [(1, 1_000_000), (1_000_000, 1), (1, 1), (1_000_000, 1_000_000)])
def test_extreme_weights(policy: str, number: int, weights: tuple[int, int]) -> None:
    """The least and the greatest weight side by side give picks, and scores if there are any."""
    endpoints = candidates(*(weights * number)[:number])
    picker = policy_named(policy)(endpoints, random.Random(3))
    ids = Counter(picker.pick(CALL).instance.id for _ in range(200))
    assert set(ids) <= {endpoint.instance.id for endpoint in endpoints}
    if hasattr(picker, "scores"):
        assert len(picker.scores(CALL)) == number


@every_policy
@given(
    weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=12),
    loads=st.lists(st.integers(0, 9), min_size=12, max_size=12),
    failures=st.lists(st.booleans(), min_size=12, max_size=12),
    excluded=st.sets(st.integers(0, 11)),
    seed=st.integers(),
)
def test_every_policy_picks_a_candidate(
    policy: str, weights: list[int], loads: list[int], failures: list[bool], excluded: set[int], seed: int
) -> None:
    """Whatever the weights and loads are, a pick is a candidate, none of those excluded, and None if those are all."""
    endpoints = candidates(*weights)
    for endpoint, load, fails in zip(endpoints, loads, failures, strict=False):
        endpoint.load.count = load
        endpoint.load.record(Outcome.FAILED if fails else Outcome.SUCCEEDED, 0.01)
    picker = policy_named(policy)(endpoints, random.Random(seed))
    out = {endpoint for index, endpoint in enumerate(endpoints) if index in excluded}
    left = [endpoint for endpoint in endpoints if endpoint not in out]
    for _ in range(10):
        assert picker.pick(CALL) in endpoints
        another = picker.pick_excluding(CALL, out)  # type: ignore[attr-defined]
        assert another in left if left else another is None


@every_policy
@any_number
def test_all_but_one_excluded(policy: str, number: int) -> None:
    """The one that is left is found among any number, though it has the least weight."""
    endpoints = candidates(*[1_000_000] * (number - 1), 1)
    picker = policy_named(policy)(endpoints, random.Random(5))
    for _ in range(3):
        assert picker.pick_excluding(CALL, set(endpoints[:-1])) is endpoints[-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("policy", ["least_outstanding", "peak_ewma", "random", "ring_hash", "weighted_round_robin"])
@any_number
def test_idle_endpoints_are_picked_by_weight(policy: str, number: int) -> None:
    """Where the idea allows it, an idle endpoint of three times the weight gets more calls, of few and of many."""
    endpoints = candidates(*[100, 300] * number)[: max(2, number)]
    shares = Counter(int(name[1:]) % 2 for name in picks(policy, endpoints, 6_000))
    heavy, light = len(endpoints) // 2, (len(endpoints) + 1) // 2
    assert shares[1] / heavy > 2 * shares[0] / light


@every_policy
def test_scores_draw_nothing(policy: str) -> None:
    """To explain a pick does not change the picks that follow."""
    plain, explained = (policy_named(policy)(candidates(*[1] * 10), random.Random(7)) for _ in range(2))
    for _ in range(20):
        getattr(explained, "scores", repr)(CALL)
        getattr(explained, "scores", repr)(FakeCall(metadata=(("x-user", "1"),)))
        assert plain.pick(CALL).instance.id == explained.pick(CALL).instance.id


# those that are simple


def test_round_robin_takes_everyone_in_turn() -> None:
    """Any window of n picks holds each of n endpoints once, whatever their weights."""
    picked = picks("round_robin", candidates(1, 5, 9), 100)
    for start in range(97):
        assert len(set(picked[start : start + 3])) == 3


def test_pick_first_stays_with_the_longest_connected() -> None:
    """Every pick is the first candidate."""
    assert set(picks("pick_first", candidates(1, 100, 100), 50)) == {"e0"}


def test_random_follows_the_weights() -> None:
    """In 40,000 draws by 1:2:1 each share is within a hundredth of its due."""
    shares = Counter(picks("random", candidates(100, 200, 100), 40_000))
    assert shares["e0"] == pytest.approx(10_000, abs=400)
    assert shares["e1"] == pytest.approx(20_000, abs=400)


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ("round_robin", "<RoundRobin of 3>"),
        ("weighted_round_robin", "<WeightedRoundRobin: 1 of 2, 2 of 1>"),
        ("random", "<Random of 3>"),
        ("pick_first", "<PickFirst <FakeEndpoint e0 READY>>"),
    ],
)
def test_pickers_show_themselves(policy: str, shown: str) -> None:
    """A picker's repr says what it chooses from."""
    assert repr(policy_named(policy)(candidates(100, 200, 100), random.Random())) == shown
