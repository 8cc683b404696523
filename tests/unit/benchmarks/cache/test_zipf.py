"""What is asked for, and how often."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from benchmarks.cache.zipf import trace


def test_popularity_falls_as_one_by_rank() -> None:
    """The second thing is asked for half as often as the first, the hundredth a hundredth as often."""
    asked = Counter(trace(1_000, 200_000, Random(1)))
    for rank in (2, 10, 100):
        assert asked[rank - 1] == pytest.approx(asked[0] / rank, rel=0.2)


def test_a_seed_makes_one_trace() -> None:
    """The same seed draws the same things in the same order, all of them among those there are."""
    first = trace(50, 500, Random(7))
    assert first == trace(50, 500, Random(7))
    assert set(first) <= set(range(50))
    assert len(first) == 500
