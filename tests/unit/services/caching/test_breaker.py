from __future__ import annotations

from itertools import pairwise
from random import Random

from structlog.testing import capture_logs

from shop_services.caching.breaker import FAILURES, PAUSE, Breaker
from shop_services.caching.errors import CacheError, ValueTooLarge


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def broken(clock: Clock, seed: int = 1) -> Breaker:
    breaker = Breaker("test", clock, Random(seed))
    for _ in range(FAILURES):
        assert breaker.allows()
        breaker.failed(TimeoutError())
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    """Failures with a success among them do not open it."""
    breaker = Breaker("test", Clock(), Random(1))
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed(TimeoutError())
        assert breaker.allows()
        breaker.worked()
    assert not breaker.open


def test_one_attempt_a_pause_is_allowed_while_it_is_open() -> None:
    """Of all who ask during five seconds, one a second may, give or take the jitter, though nothing is told of any."""
    clock = Clock()
    breaker = broken(clock)
    allowed = []
    for tick in range(5000):
        clock.now = tick / 1000
        if breaker.allows():
            allowed.append(clock.now)
    assert 4 <= len(allowed) <= 6
    assert all(0.8 * PAUSE <= later - earlier <= 1.2 * PAUSE + 0.001 for earlier, later in pairwise(allowed))


def test_one_success_closes_it() -> None:
    """What was allowed and worked lets all be allowed again."""
    clock = Clock()
    breaker = broken(clock)
    assert not breaker.allows()
    clock.now = 2.0
    assert breaker.allows()
    breaker.worked()
    assert all(breaker.allows() for _ in range(10))


def test_refusals_are_answers_and_one_of_a_kind_is_logged() -> None:
    """They close it as a success does, and whoever reads the log learns of each kind, however often it comes."""
    clock = Clock()
    breaker = broken(clock)
    clock.now = 2.0
    assert breaker.allows()
    with capture_logs() as entries:
        for number in range(5):
            breaker.refused(ValueTooLarge(f"the value of 'k{number}'"))
            breaker.refused(CacheError("namespace: there is none"))
    assert not breaker.open
    assert [(entry["event"], entry.get("message")) for entry in entries] == [
        ("cache_resumed", None),
        ("cache_refused", "the value of 'k0'"),
        ("cache_refused", "namespace: there is none"),
    ]


def test_failures_that_began_before_it_opened_do_not_prolong_the_pause() -> None:
    """A thousand late failures change nothing about when the next attempt is."""
    clock = Clock()
    breaker = broken(clock)
    clock.now = 0.7
    for _ in range(1000):
        breaker.failed(TimeoutError())
    clock.now = 1.2 * PAUSE
    assert breaker.allows()


def test_processes_do_not_come_back_at_one_moment() -> None:
    """Breakers with different seeds allow their next attempts at different times."""
    first = []
    for seed in range(20):
        clock = Clock()
        breaker = broken(clock, seed)
        while not breaker.allows():
            clock.now += 0.001
        first.append(round(clock.now, 3))
    assert len(set(first)) > 10
