from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.client.candidates import candidates, picks


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
