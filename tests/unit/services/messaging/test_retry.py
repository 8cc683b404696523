"""Backoff grows, is bounded, and repeats exactly from a seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.messaging.retry import RetryPolicy


def test_delays_double_up_to_the_longest() -> None:
    """Without jitter they are first, twice that, and so on, and never more than the longest."""
    policy = RetryPolicy(first=0.1, factor=2, longest=1.0, jitter=0)
    assert [policy.delay(failures, Random(1)) for failures in (1, 2, 3, 4, 5, 500)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    )


@given(failures=st.integers(1, 10_000), seed=st.integers())
def test_jitter_stays_in_its_bounds(failures: int, seed: int) -> None:
    """A delay differs from the one without jitter by its part at most, and is the same for one seed."""
    plain, policy = RetryPolicy(jitter=0), RetryPolicy(jitter=0.2)
    middle = plain.delay(failures, Random(0))
    delay = policy.delay(failures, Random(seed))
    assert 0.8 * middle <= delay <= 1.2 * middle
    assert delay == policy.delay(failures, Random(seed))


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"first": 0}, {"first": 2.0, "longest": 1.0}, {"factor": 0.5}, {"jitter": 1.0}, {"jitter": -0.1}],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    """A policy says so when it is made."""
    with pytest.raises(ValueError, match=r"attempts|needs"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
