from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.slow_start import TENTHS, WINDOW, tenths


@pytest.mark.parametrize(
    ("age", "warm"), [(-1, 1), (0, 1), (1.99, 1), (2, 2), (3, 3), (6.99, 6), (7, 7), (9.99, 9), (10, 10), (1e9, 10)]
)
def test_weight_grows_in_a_straight_line(age: float, warm: int) -> None:
    """In a window of 10 s an endpoint gets a tenth each second, beginning with one."""
    assert tenths(age) == warm
    assert tenths(age / WINDOW, window=1.0) == warm


def test_aggression_gives_newcomers_more() -> None:
    """With an aggression of 2 an endpoint of a quarter of the window has half of its weight."""
    assert tenths(2.5, window=10.0, aggression=2.0) == 5
    assert tenths(5.0, window=10.0, aggression=0.5) == 2


@given(
    ages=st.lists(st.floats(0, 100), min_size=2).map(sorted), window=st.floats(0.1, 100), aggression=st.floats(0.1, 10)
)
def test_it_never_shrinks_and_ends_warm(ages: list[float], window: float, aggression: float) -> None:
    """With age the weight grows from a tenth or more to all, in at most ten steps."""
    warm = [tenths(age, window, aggression) for age in ages]
    assert warm == sorted(warm)
    assert set(warm) <= set(range(1, TENTHS + 1))
    assert tenths(window, window, aggression) == TENTHS
