"""The references: right on traces that can be checked by hand, and against the definition of each policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cache.reference import REFERENCES, fifo, lfu, lru

TRACES = st.lists(st.integers(0, 12), max_size=120)
SIZES = st.integers(1, 8)


def test_lru_forgets_what_was_used_longest_ago() -> None:
    """With room for two, 0 is used again and stays, so 1 goes for 2."""
    assert lru([0, 1, 0, 2, 0, 1], 2) == 2


def test_fifo_forgets_what_came_first() -> None:
    """With room for two, 0 goes for 2 although it was just used."""
    assert fifo([0, 1, 0, 2, 1, 0], 2) == 2


def test_lfu_forgets_what_was_used_least() -> None:
    """With room for two, 0 was used twice, so 1 goes for 2, and 2 for 1."""
    assert lfu([0, 0, 1, 2, 0, 1, 0], 2) == 3


def test_lfu_forgets_the_longest_unused_of_equals() -> None:
    """Used twice both, 1 stays for its later use, and 0 goes."""
    assert lfu([0, 1, 0, 1, 2, 1, 2], 2) == 4


@pytest.mark.parametrize("policy", REFERENCES)
@given(trace=TRACES, size=SIZES)
def test_a_reference_does_what_its_policy_says(policy: str, trace: list[int], size: int) -> None:
    """On any trace it has the hits of the policy's definition, taken at its word."""
    assert REFERENCES[policy](trace, size) == by_definition(ORDERS[policy], trace, size)


Order = Callable[[int, Sequence[int], int], tuple[int, ...]]
"""Of a thing, given what was asked for so far and when the thing came in: the least goes first."""


def last_use(thing: int, past: Sequence[int], _: int) -> tuple[int, ...]:
    return (max(index for index, one in enumerate(past) if one == thing),)


def uses_since(thing: int, past: Sequence[int], came: int) -> tuple[int, ...]:
    return (list(past[came:]).count(thing), *last_use(thing, past, came))


def coming(_: int, __: Sequence[int], came: int) -> tuple[int, ...]:
    return (came,)


ORDERS: dict[str, Order] = {"lru": last_use, "lfu": uses_since, "fifo": coming}


def by_definition(order: Order, trace: Sequence[int], size: int) -> int:
    hits = 0
    came: dict[int, int] = {}
    for now, thing in enumerate(trace):
        if thing in came:
            hits += 1
            continue
        if len(came) == size:
            del came[min(came, key=lambda one: order(one, trace[:now], came[one]))]
        came[thing] = now
    return hits
