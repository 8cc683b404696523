"""Ids sort as they were given, and are real UUIDs."""

from __future__ import annotations

import uuid
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shop_services.order.ids import OrderIds

NOW = 1_767_355_200_123_456_789


@given(st.lists(st.integers(-(10**9), 10**9), min_size=2))
def test_ids_grow_whatever_the_clock_does(steps: list[int]) -> None:
    """A clock that stands still or goes back gives no id twice and none out of order."""
    now = NOW
    ids = OrderIds(lambda: now, Random(7))
    given_ids = []
    for step in steps:
        now += step
        given_ids.append(ids())
    assert all(a < b for a, b in pairwise(given_ids))


def test_an_id_is_a_uuid_of_version_7_and_tells_its_time() -> None:
    """Its first 48 bits are the clock's milliseconds, as RFC 9562 says."""
    parsed = uuid.UUID(OrderIds(lambda: NOW, Random(7))())
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == NOW // 1_000_000


def test_ids_of_processes_that_start_later_sort_later() -> None:
    """A microsecond between two processes is enough to order their ids."""
    assert OrderIds(lambda: NOW, Random(1))() < OrderIds(lambda: NOW + 1000, Random(2))()


def test_the_same_seed_gives_the_same_ids() -> None:
    """A test can repeat exactly."""
    assert OrderIds(lambda: NOW, Random(1))() == OrderIds(lambda: NOW, Random(1))()
