"""Who goes when there is no room, what a call costs, and what is refused; the model's tests have the rest."""

from __future__ import annotations

from typing import Any

import pytest

from shop_services.caching.bounded import Bounded, Policy
from shop_services.caching.counts import MISS, Counts
from shop_services.caching.errors import InvalidTtl, ValueTooLarge


class Clock:
    """Seconds that pass when the test says so. It counts how often it was asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def left(store: Bounded[Any]) -> str:
    return "".join(sorted(store.keys()))


def test_lru_goes_by_the_last_use() -> None:
    """A get, a touch and a new value are uses; a peek, an expire and the time of coming are not."""
    store: Bounded[int] = Bounded("lru", max_entries=4)
    for key in "abcd":
        store.set(key, 1)
    store.get("a")
    store.touch("b")
    store.set("c", 2)
    store.peek("d")
    store.expire("d", 100)
    store.set("e", 1)
    assert left(store) == "abce"
    store.set("f", 1)
    assert left(store) == "bcef"


def test_lfu_goes_by_the_number_of_uses() -> None:
    """The one that was used least goes, however recently; of equals, the one whose last use is longest ago."""
    store: Bounded[int] = Bounded("lfu", max_entries=4)
    for key in "aabcddd":
        store.set(key, 1)
    store.get("c")
    store.get("b")
    store.set("e", 1)  # a, c, b have two uses each; a's last is longest ago
    assert left(store) == "bcde"
    store.set("f", 1)
    assert left(store) == "bcdf"
    store.set("g", 1)
    assert left(store) == "bcdg"


def test_fifo_goes_by_the_value_that_came_first() -> None:
    """Uses do not count; a new value for an old key comes last."""
    store: Bounded[int] = Bounded("fifo", max_entries=3)
    for key in "abc":
        store.set(key, 1)
    store.get("a")
    store.get("b")
    store.set("a", 2)
    store.set("d", 1)
    assert left(store) == "acd"


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
def test_the_expired_go_before_the_living(policy: Policy) -> None:
    """However often and recently they were used."""
    clock = Clock()
    store: Bounded[int] = Bounded(policy, max_entries=20, clock=clock)
    store.set("live", 1)
    for i in range(19):
        store.set(f"dying {i}", 1, ttl=10)
        store.get(f"dying {i}")
    clock.now = 10
    for i in range(19):
        store.set(f"new {i}", 1)
    assert store.peek("live") == 1
    assert (store.counts().evictions, store.counts().expirations) == (0, 19)


def test_a_call_forgets_few() -> None:
    """When a thousand expire at once the next calls forget two each, and none of them is returned."""
    clock = Clock()
    store: Bounded[int] = Bounded(max_entries=2000, clock=clock)
    for i in range(1000):
        store.set(str(i), 1, ttl=10)
    clock.now = 10
    store.set("new", 1)
    assert len(store) == 999
    assert store.get("500") is MISS
    assert len(store) == 998
    assert store.forget_expired(100) == 100
    assert store.forget_expired(10_000) == 897
    assert store.keys() == ["new"]


def test_a_large_value_makes_room_for_itself() -> None:
    """It evicts as many as it takes, and no more; one that is larger than all changes nothing and is named."""
    store: Bounded[bytes] = Bounded(max_entries=10, max_bytes=10, size_of=lambda key, value: len(value))
    for key in "abc":
        store.set(key, b"123")
    store.set("d", b"12345")
    assert left(store) == "cd"
    with pytest.raises(ValueTooLarge, match="'c': 11 bytes; the cache has at most 10"):
        store.set("c", b"12345678901")
    assert store.peek("c") == b"123"
    assert store.counts() == Counts(sets=4, evictions=2, expirations=0, entries=2, bytes=8)


def test_a_value_that_grows_is_not_evicted_for_itself() -> None:
    """The others go; it is a new value of the old key, counted as no eviction."""
    store: Bounded[bytes] = Bounded("fifo", max_entries=10, max_bytes=10, size_of=lambda key, value: len(value))
    for key in "abc":
        store.set(key, b"123")
    store.set("a", b"123456")
    assert left(store) == "ac"
    assert store.counts().evictions == 1
    store.set("a", b"1234567890")
    assert left(store) == "a"
    assert store.counts().evictions == 2


def test_nothing_is_left_of_what_is_gone() -> None:
    """A hundred thousand values with a deadline, replaced, deleted and evicted, leave ten deadlines for ten entries."""
    store: Bounded[int] = Bounded(max_entries=10)
    for i in range(100_000):
        store.set(str(i % 17), i, ttl=1000 + i % 7)
        if i % 5 == 0:
            store.delete(str((i + 3) % 17))
    assert len(store._deadlines) == len(store) <= 10
    store.clear()
    assert len(store._deadlines) == 0


def test_without_a_measure_bytes_are_not_known() -> None:
    """None says so; 0 would be a number."""
    store: Bounded[int] = Bounded(max_entries=1)
    store.set("k", 1)
    assert store.counts().bytes is None


def test_a_ratio_needs_a_look() -> None:
    """Before the first one there is none."""
    store: Bounded[int] = Bounded(max_entries=1)
    assert store.counts().hit_ratio is None
    store.get("k")
    assert store.counts().hit_ratio == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_entries": 0}, "max_entries 0"),
        ({"max_entries": 1, "max_bytes": 0, "size_of": len}, "max_bytes 0"),
        ({"max_entries": 1, "max_bytes": 5}, "size_of"),
        ({"policy": "random", "max_entries": 1}, "policy 'random': one of lru, lfu, fifo"),
    ],
)
def test_limits_that_none_should_have_are_named(options: dict[str, Any], named: str) -> None:
    """A store is not made with them."""
    with pytest.raises(ValueError, match=named):
        Bounded(**options)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), 31_536_001])
def test_a_wrong_ttl_changes_nothing(ttl: float) -> None:
    """Neither the value nor its end."""
    store: Bounded[int] = Bounded(max_entries=1)
    store.set("k", 1)
    for call in (lambda: store.set("k", 2, ttl), lambda: store.add("l", 2, ttl), lambda: store.expire("k", ttl)):
        with pytest.raises(InvalidTtl, match="ttl"):
            call()
    assert (store.peek("k"), store.ttl("k"), len(store)) == (1, None, 1)


def test_it_says_what_it_is() -> None:
    """For a log."""
    assert repr(Bounded[int]("lfu", max_entries=1000)) == "<Bounded lfu: 0 of 1,000 entries>"
