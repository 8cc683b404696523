from __future__ import annotations

from random import Random

import pytest

from shop_services.caching.copies import Copy
from shop_services.caching.lifetimes import Lifetimes


class Clocks:
    now = 100.0
    skew = 0.0

    def clock(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1e9 + self.now + self.skew


def lifetimes(clocks: Clocks, **options: float) -> Lifetimes:
    numbers = {"ttl": 100.0, "negative_ttl": 10.0, "jitter": 0.1, "refresh_ahead": 0.2} | options
    return Lifetimes(**numbers, clock=clocks.clock, wall=clocks.wall, rng=Random(1))


def test_lives_are_jittered_and_never_longer_than_the_ttl() -> None:
    """A thousand copies of one moment end all over the last tenth of their lives; those of nothing sooner."""
    clocks = Clocks()
    times = lifetimes(clocks)
    lives = [times.left(times.loaded(Copy("value", 1))) for _ in range(1000)]
    assert 90 <= min(lives) < 91 and 99 < max(lives) <= 100  # noqa: PT018
    assert all(9 <= times.left(times.loaded(Copy(None, 1))) <= 10 for _ in range(1000))


def test_refreshes_are_spread_over_the_end_of_a_life() -> None:
    """A copy is due somewhere in the first half of the last fifth of its life, each somewhere else."""
    times = lifetimes(Clocks())
    ahead = [copy.expires - copy.refresh_at for copy in (times.loaded(Copy("value", 1)) for _ in range(1000))]
    assert 10 <= min(ahead) < 10.5 and 19.5 < max(ahead) <= 20  # noqa: PT018


def test_a_copy_of_another_process_ends_when_that_one_says() -> None:
    """What another process stored lives in both until the same moment."""
    clocks = Clocks()
    times = lifetimes(clocks)
    stored = times.loaded(Copy("value", 1))
    sent = Copy("value", 1, times.by_wall(stored))
    clocks.now += 30
    adopted = times.adopted(sent)
    assert adopted is not None
    assert adopted.expires == pytest.approx(stored.expires)


@pytest.mark.parametrize(("skew", "left"), [(-1e6, 100.0), (50.0, 50.0), (99.9, 0.1)])
def test_wall_clocks_that_disagree_never_lengthen_a_life_beyond_the_ttl(skew: float, left: float) -> None:
    """A clock that is behind gives the whole TTL at most; one that is ahead shortens it."""
    clocks = Clocks()
    times = lifetimes(clocks)
    sent = Copy("value", 1, 1e9 + clocks.now + 100)
    clocks.skew = skew
    adopted = times.adopted(sent)
    assert adopted is not None
    assert times.left(adopted) == pytest.approx(left)


def test_what_has_expired_is_not_adopted() -> None:
    """A shared cache that keeps copies for too long does not lengthen their lives."""
    clocks = Clocks()
    assert lifetimes(clocks).adopted(Copy("value", 1, clocks.wall())) is None


def test_a_postponed_refresh_comes_later_and_before_the_end() -> None:
    """Each failed refresh is followed by another in the second half of what is left."""
    clocks = Clocks()
    times = lifetimes(clocks)
    copy = times.loaded(Copy("value", 1))
    for _ in range(5):
        clocks.now = copy.refresh_at
        left = times.left(copy)
        copy = times.postponed(copy)
        assert clocks.now + left / 2 <= copy.refresh_at <= copy.expires


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 0.0}, "ttl 0.0"),
        ({"ttl": 1e9}, "at most 31,536,000"),
        ({"negative_ttl": -1.0}, "negative_ttl -1.0"),
        ({"jitter": -0.1}, "jitter -0.1"),
        ({"jitter": 0.5, "refresh_ahead": 0.5}, "together less than 1"),
    ],
)
def test_numbers_that_make_no_sense_are_named(options: dict[str, float], message: str) -> None:
    """The error says which number it is and what is allowed."""
    with pytest.raises(ValueError, match=message):
        lifetimes(Clocks(), **options)
