"""The limit finds what a server can do, whatever that is, and lets in no more."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from shop_services.runtime.overload import Bounds, ConcurrencyLimit, Slot


@dataclass
class Simulated:
    """A server that does `workers` calls at a time, first come first served, under a limit, on a clock of its own."""

    workers: int
    bounds: Bounds = field(default_factory=Bounds)
    now: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limit = ConcurrencyLimit(self.bounds, lambda: self.now)
        self._free = [0.0] * self.workers  # when each worker will be
        self._ends: list[tuple[float, int, float, str, Slot]] = []
        self._number = 0

    def offer(self, rate: float, seconds: float, rng: Random, takes: Callable[[Random], tuple[str, float]]) -> None:
        """Calls at random moments, `rate` a second; `takes` draws the kind of each and how long it takes by itself."""
        self.latencies.clear()
        end, due = self.now + seconds, self.now + rng.expovariate(rate)
        while due < end:
            self._until(due)
            kind, work = takes(rng)
            if (slot := self.limit.begin()) is not None:
                done = max(heapq.heappop(self._free), due) + work
                heapq.heappush(self._free, done)
                self._number += 1
                heapq.heappush(self._ends, (done, self._number, due, kind, slot))
            due += rng.expovariate(rate)
        self._until(end)

    def _until(self, moment: float) -> None:
        while self._ends and self._ends[0][0] <= moment:
            self.now, _, began, kind, slot = heapq.heappop(self._ends)
            slot.end(kind)
            self.latencies.append(self.now - began)
        self.now = moment


def one_kind(work: float) -> Callable[[Random], tuple[str, float]]:
    return lambda rng: ("call", rng.uniform(0.5, 1.5) * work)


@pytest.mark.parametrize(("workers", "work"), [(1, 0.001), (1, 0.01), (8, 0.02), (64, 0.1), (2, 0.1)])
def test_five_times_too_much_is_refused_and_the_rest_served(workers: int, work: float) -> None:
    """Whatever bounds a server, nearly all that it can do is done, and calls wait little longer than is allowed."""
    server, rng = Simulated(workers), Random(1)
    capacity = workers / work
    server.offer(0.5 * capacity, 20, rng, one_kind(work))
    assert server.limit.refused == 0
    server.offer(5 * capacity, 15, rng, one_kind(work))  # the limit is found
    server.offer(5 * capacity, 20, rng, one_kind(work))
    assert len(server.latencies) >= 0.95 * 20 * capacity
    later = sorted(server.latencies)
    bounds = server.bounds
    allowed = bounds.slack * max(2 * work, bounds.least * work / workers) + bounds.delay
    assert later[len(later) * 99 // 100] <= 1.5 * allowed
    refused = server.limit.refused
    server.offer(0.5 * capacity, 1, rng, one_kind(work))  # what was let in ends
    server.offer(0.5 * capacity, 20, rng, one_kind(work))
    assert server.limit.refused <= refused + 0.1 * capacity


@pytest.mark.parametrize("rate", [0.1, 200])
def test_what_was_learned_of_an_overload_is_forgotten(rate: float) -> None:
    """After half a minute in which little was asked for, a burst is let in as if nothing had been."""
    server, rng = Simulated(1), Random(5)
    server.offer(5000, 20, rng, one_kind(0.002))
    assert server.limit.limit < 100
    server.offer(rate, 60, rng, one_kind(0.002))
    assert server.limit.limit == server.bounds.first


def test_slow_calls_among_fast_ones_are_no_overload() -> None:
    """Each kind of call is compared with itself, so that a change of what is asked for changes no limit."""
    server, rng = Simulated(64), Random(2)

    def mixed(share: float) -> Callable[[Random], tuple[str, float]]:
        return lambda rng: ("slow", 0.5) if rng.random() < share else ("fast", 0.005)

    server.offer(40, 20, rng, mixed(0.05))
    server.offer(40, 20, rng, mixed(0.95))
    assert server.limit.refused == 0
    assert server.limit.limit == server.bounds.first


def test_a_burst_is_no_overload() -> None:
    """What comes at once, but is soon done, is let in up to the limit, and changes nothing."""
    server, rng = Simulated(1), Random(3)
    for _ in range(5):
        server.offer(20_000, 0.005, rng, one_kind(0.0005))
        server.offer(1, 2, rng, one_kind(0.0005))
    assert server.limit.refused == 0


def test_the_limit_stays_within_its_bounds() -> None:
    """However slow or fast everything is, the limit is neither below the least nor above the most."""
    bounds = Bounds(least=4, first=8, most=32)
    server, rng = Simulated(1, bounds), Random(4)
    server.offer(100, 5, rng, one_kind(0.001))
    server.offer(100, 60, rng, one_kind(0.5))
    assert server.limit.limit <= 8
    server = Simulated(1000, bounds)
    server.offer(500, 10, rng, one_kind(0.05))
    assert server.limit.limit == 32
    assert server.limit.refused > 0


def test_calls_that_fail_early_tell_nothing() -> None:
    """Refusals by others are quick: they neither raise the limit nor make good calls look slow."""
    limit = ConcurrencyLimit(now=lambda: 0.0)
    slots = [limit.begin() for _ in range(200)]
    for slot in slots:
        assert slot is not None
        slot.end()
    assert (limit.limit, limit.in_progress) == (limit.bounds.first, 0)


def test_a_place_is_given_back_once() -> None:
    """However often a call says that it has ended."""
    limit = ConcurrencyLimit(Bounds(least=1, first=1, most=1))
    slot = limit.begin()
    assert slot is not None
    assert limit.full
    assert limit.begin() is None
    slot.end("x")
    slot.end("x")
    assert not slot.held
    assert repr(limit) == "<ConcurrencyLimit 0 of 1, 1 refused>"


@pytest.mark.parametrize("bounds", [(0, 1, 1), (2, 1, 3), (1, 4, 3)])
def test_bounds_that_contradict_each_other_are_refused(bounds: tuple[int, int, int]) -> None:
    """The error shows them."""
    least, first, most = bounds
    with pytest.raises(ValueError, match="least, first and most must be in this order"):
        Bounds(least=least, first=first, most=most)
