from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.pickers.sampling import WeightedSampler, per_weight


@given(weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=40))
def test_the_table_holds_each_weight_exactly(weights: list[int]) -> None:
    """The shares of all columns of the alias table add up to each index's part of the whole."""
    sampler = WeightedSampler(weights, random.Random(0))
    parts = [0.0] * len(weights)
    for column, (keep, alias) in enumerate(zip(sampler._keep, sampler._alias, strict=True)):
        parts[column] += keep / len(weights)
        parts[alias] += (1 - keep) / len(weights)
    assert parts == pytest.approx([weight / sum(weights) for weight in weights], rel=1e-6, abs=1e-9)


@given(weights=st.lists(st.integers(1, 1_000_000), min_size=2, max_size=9), seed=st.integers())
def test_two_draws_are_different(weights: list[int], seed: int) -> None:
    """Two of several are never the same one, even if it has nearly all the weight."""
    sampler = WeightedSampler([*weights, 10**9], random.Random(seed))
    for _ in range(20):
        first, second = sampler.two()
        assert first != second
        assert {first, second} <= set(range(len(weights) + 1))


def test_the_mean_weight_counts_as_one() -> None:
    """What a load is multiplied by is inverse to the weight, and 1 for the mean."""
    assert per_weight([100, 300, 200]) == [pytest.approx(2), pytest.approx(2 / 3), 1.0]
