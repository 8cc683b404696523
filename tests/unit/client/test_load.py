from __future__ import annotations

import asyncio
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grpc_balancer.load import MOST_PENALTY, PENALTY_HALF_LIFE, Handle, Load, Outcome
from tests.unit.client.virtual import Serve, share, simulate, steadily


class Time:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class LoadMachine(RuleBasedStateMachine):
    """Any interleaving of begins, ends (some of them repeated), results, and an endpoint that leaves and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time(1000.0)
        self.load = Load(self.time)
        self.open: list[Handle] = []
        self.ended: list[Handle] = []
        self.departed: list[tuple[Load, int]] = []
        self.open_there: list[tuple[Handle, int]] = []

    @rule()
    def begin(self) -> None:
        self.open.append(self.load.begin())

    @rule(which=st.integers(min_value=0))
    def end(self, which: int) -> None:
        if self.open:
            handle = self.open.pop(which % len(self.open))
            handle.end()
            self.ended.append(handle)

    @rule(which=st.integers(min_value=0))
    def end_again(self, which: int) -> None:
        if self.ended:
            self.ended[which % len(self.ended)].end()

    @rule(outcome=st.sampled_from(Outcome), elapsed=st.none() | st.floats(0, 100), later=st.floats(0, 1000))
    def record(self, outcome: Outcome, elapsed: float | None, later: float) -> None:
        self.time.now += later
        self.load.record(outcome, elapsed)

    @rule()
    def leave_and_come_back(self) -> None:
        before = self.load
        self.load = Load(self.time)
        self.load.adopt(before)
        assert self.load.penalty == before.penalty
        assert self.load.latency(self.time.now) == before.latency(self.time.now)
        self.open_there += [(handle, len(self.departed)) for handle in self.open]
        self.departed.append((before, before.count))
        self.open = []

    @rule(which=st.integers(min_value=0))
    def end_there(self, which: int) -> None:
        if self.open_there:
            handle, where = self.open_there.pop(which % len(self.open_there))
            handle.end()
            load, count = self.departed[where]
            self.departed[where] = load, count - 1

    @invariant()
    def counts_what_is_open(self) -> None:
        assert self.load.count == len(self.open)
        assert all(load.count == count for load, count in self.departed)

    @invariant()
    def statistics_stay_within_bounds(self) -> None:
        assert 0 <= self.load.penalty <= MOST_PENALTY
        assert 0 <= self.load.latency(self.time.now) <= 100.001


TestLoad = LoadMachine.TestCase


@given(st.integers(min_value=1, max_value=20))
async def test_idle_comes_with_the_last_end(calls: int) -> None:
    """`wait_idle` returns when the last call has ended, and not before."""
    load = Load(time.monotonic)
    handles = [load.begin() for _ in range(calls)]
    idle = asyncio.ensure_future(load.wait_idle())
    for handle in handles:
        await asyncio.sleep(0)
        assert not idle.done()
        handle.end()
    async with asyncio.timeout(30):
        await idle


async def test_idle_survives_a_waiter_that_gave_up() -> None:
    """A cancelled wait for idleness disturbs neither the count nor the next wait."""
    load = Load(time.monotonic)
    handle = load.begin()
    impatient = asyncio.ensure_future(load.wait_idle())
    await asyncio.sleep(0)
    impatient.cancel()
    handle.end()
    async with asyncio.timeout(30):
        await load.wait_idle()
    assert repr(load) == "<Load 0>"


# failures


def test_failures_weigh_one_each_and_halve_with_time() -> None:
    """Two failures weigh 2, half a half-life each half-life later, and in the end exactly nothing."""
    clock = Time(50.0)
    load = Load(clock)
    load.record(Outcome.FAILED, 0.001)
    load.record(Outcome.FAILED, 0.001)
    assert load.penalty == pytest.approx(2)
    clock.now += PENALTY_HALF_LIFE
    assert load.penalty == pytest.approx(1)
    assert repr(load) == "<Load 0, penalty 1.00>"
    clock.now += 6 * PENALTY_HALF_LIFE
    assert load.penalty == load.failures == 0.0


def test_successes_neither_weigh_nor_forgive() -> None:
    """An answer, or a caller who gave up, leaves the penalty as it is."""
    load = Load(Time())
    load.record(Outcome.SUCCEEDED, 0.01)
    load.record(Outcome.UNKNOWN, 0.01)
    assert load.failures == 0.0
    load.record(Outcome.FAILED, 0.001)
    load.record(Outcome.SUCCEEDED, 0.01)
    assert load.penalty == 1


def test_a_penalty_has_a_bound() -> None:
    """However much failed, an endpoint can be as others again within half a minute."""
    clock = Time()
    load = Load(clock)
    for _ in range(5000):
        load.record(Outcome.FAILED, 0.001)
    assert load.penalty == MOST_PENALTY
    clock.now += 30
    assert load.penalty == 0.0


def failing_until(recovery: float, part: float) -> Serve:
    """Fails in 1 ms, or serves in 10 ms, and that alone from then on."""

    def serve(now: float, rng: random.Random) -> tuple[Outcome, float]:
        fails = now < recovery and rng.random() < part
        return (Outcome.FAILED, 0.001) if fails else (Outcome.SUCCEEDED, 0.010)

    return serve


@pytest.mark.parametrize("policy", ["least_outstanding", "peak_ewma"])
@pytest.mark.parametrize(("part", "at_most"), [(1.0, 0.05), (0.3, 0.15)])
@pytest.mark.parametrize("rate", [50, 350, 2000])
def test_who_fails_fast_gets_little_and_its_share_after_it_recovers(
    policy: str, part: float, at_most: float, rate: float
) -> None:
    """Of 8 endpoints, one that fails in 1 ms gets a few percent of its fair share, and it all 6 s after it recovers.

    That holds from where endpoints are mostly idle to where each has several calls, and if only a part fails.
    """
    servers = [failing_until(15, part), *[steadily(0.010)] * 7]
    got = simulate(policy, servers, rate, seconds=30, seed=1)
    assert share(got[:15], 0, of=8) < at_most
    assert share(got[21:], 0, of=8) > 0.75


# latency


def test_a_slow_answer_counts_at_once_and_fades() -> None:
    """The slowest of the latest answers is the estimate, which falls to 1/e in ten seconds, and then to nothing."""
    clock = Time(1e6)
    load = Load(clock)
    assert load.latency(clock.now) == 0.0
    load.record(Outcome.SUCCEEDED, 0.010)
    load.record(Outcome.SUCCEEDED, 0.500)
    load.record(Outcome.SUCCEEDED, 0.010)
    assert load.latency(clock.now) == pytest.approx(0.500)
    assert repr(load) == "<Load 0, 0.5000 s>"
    clock.now += 10
    assert load.latency(clock.now) == pytest.approx(0.500 / 2.718, rel=1e-3)
    clock.now += 40
    load.record(Outcome.SUCCEEDED, 0.010)
    assert load.latency(clock.now) == pytest.approx(0.010)
    clock.now += 200
    assert load.latency(clock.now) == 0.0


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_what_was_not_answered_can_only_make_an_endpoint_look_slower(outcome: Outcome) -> None:
    """A fast failure is no fast answer, a call given up after long says that one would have taken longer."""
    load = Load(Time())
    load.record(outcome, 0.001)
    assert load.latency(0.0) == 0.0
    load.record(Outcome.SUCCEEDED, 0.010)
    load.record(outcome, 0.001)
    assert load.latency(0.0) == pytest.approx(0.010)
    load.record(outcome, 2.0)
    assert load.latency(0.0) == pytest.approx(2.0)
    load.record(Outcome.SUCCEEDED, None)
    assert load.latency(0.0) == pytest.approx(2.0)
