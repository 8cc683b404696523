from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.pickers import CallInfo, Candidate, policies, policy_named, register_policy
from grpc_balancer.pickers.least_outstanding import SCAN_AT_MOST, BetterOfTwo, ScanAll
from grpc_balancer.pickers.sampling import WeightedSampler
from grpc_balancer.testing import FakeEndpoint
from tests.unit.client.candidates import CALL, candidates

BUILT_IN = ["least_outstanding", "pick_first", "random", "round_robin", "weighted_round_robin"]


def picks(policy: str, endpoints: Sequence[FakeEndpoint], number: int, seed: int = 0) -> list[str]:
    picker = policy_named(policy)(endpoints, random.Random(seed))
    return [picker.pick(CALL).instance.id for _ in range(number)]


@pytest.mark.parametrize("policy", BUILT_IN)
def test_a_seed_repeats_exactly(policy: str) -> None:
    """The same seed gives the same picks, another one (where chance has a part) others."""
    endpoints = candidates(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert picks(policy, endpoints, 50, seed=1) == picks(policy, endpoints, 50, seed=1)


@pytest.mark.parametrize("policy", BUILT_IN)
@given(weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=12), seed=st.integers())
def test_every_policy_picks_a_candidate(policy: str, weights: list[int], seed: int) -> None:
    """Whatever the weights are, a pick is one of the candidates."""
    endpoints = candidates(*weights)
    assert set(picks(policy, endpoints, 30, seed)) <= {endpoint.instance.id for endpoint in endpoints}


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


# weighted_round_robin


@pytest.mark.parametrize("seed", range(20))
def test_one_two_one_is_exact_over_any_400_picks(seed: int) -> None:
    """Weights 1:2:1 give exactly 100, 200 and 100 in any 400 successive picks."""
    picked = picks("weighted_round_robin", candidates(100, 200, 100), 1200, seed)
    for start in range(800):
        assert Counter(picked[start : start + 400]) == {"e0": 100, "e1": 200, "e2": 100}


@given(
    weights=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    scale=st.integers(1, 1000),
    seed=st.integers(),
    data=st.data(),
)
def test_weights_are_exact_over_any_lap(weights: list[int], scale: int, seed: int, data: st.DataObject) -> None:
    """Any window as long as the sum of the weights holds each endpoint exactly by its weight."""
    lap = sum(weights)
    picked = picks("weighted_round_robin", candidates(*(weight * scale for weight in weights)), 3 * lap * 2, seed)
    start = data.draw(st.integers(0, 2 * lap))
    window = Counter(picked[start : start + lap * 2])
    divisor = lap * 2 // sum(weights)
    assert window == {f"e{index}": weight * divisor for index, weight in enumerate(weights)}


@given(weights=st.lists(st.integers(1, 1_000_000), min_size=2, max_size=6), seed=st.integers())
def test_shares_follow_weights_of_any_size(weights: list[int], seed: int) -> None:
    """In any run of picks, each endpoint's count is within a few of its share, however odd the weights are."""
    number = 500
    counts = Counter(picks("weighted_round_robin", candidates(*weights), number, seed))
    for index, weight in enumerate(weights):
        assert abs(counts[f"e{index}"] - number * weight / sum(weights)) <= len(weights)


def test_the_heaviest_gets_no_burst() -> None:
    """5:1:1 never picks the heaviest more often in a row than the gap between the others asks for."""
    picked = picks("weighted_round_robin", candidates(500, 100, 100), 700)
    runs = "".join("h" if name == "e0" else "." for name in picked).split(".")
    assert max(map(len, runs)) <= 3


def test_clients_do_not_move_in_step() -> None:
    """Different seeds begin at different endpoints."""
    firsts = {picks("weighted_round_robin", candidates(1, 1, 1, 1), 1, seed)[0] for seed in range(40)}
    assert len(firsts) == 4


# least_outstanding


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


# sampling


@given(weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=40))
def test_the_table_holds_each_weight_exactly(weights: list[int]) -> None:
    """The shares of all columns of the alias table add up to each index's part of the whole."""
    sampler = WeightedSampler(weights, random.Random(0))
    parts = [0.0] * len(weights)
    for column, (keep, alias) in enumerate(zip(sampler._keep, sampler._alias, strict=True)):
        parts[column] += keep / len(weights)
        parts[alias] += (1 - keep) / len(weights)
    assert parts == pytest.approx([weight / sum(weights) for weight in weights], rel=1e-6, abs=1e-9)


# the register


def test_unknown_policies_are_refused_by_name() -> None:
    """The error names what was asked for and what there is."""
    with pytest.raises(ValueError, match=r"unknown policy 'fastest'; known: least_outstanding, pick_first"):
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
    with pytest.raises(ValueError, match="empty"):
        register_policy("", Last)


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
