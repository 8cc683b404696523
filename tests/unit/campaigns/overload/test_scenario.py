"""What is promised of overload is judged by what the crowd found."""

from __future__ import annotations

import math

from campaigns.overload.generator import Slice
from campaigns.overload.scenario import Step, recovery

GOOD = Slice(asked=10, took=[0.01] * 10)
REFUSED = Slice(asked=10, refused=1, took=[0.01] * 9)
LATE = Slice(asked=10, took=[0.01] * 9 + [0.9])
FAILED = Slice(asked=10, failed=10)


def test_a_step_sums_up_its_slices() -> None:
    """Rates are by second, latencies those of all answers."""
    step = Step.of(20.0, [GOOD, REFUSED, FAILED, GOOD], cpu=1.0)
    assert (step.seconds, step.asked, step.answered, step.refused, step.failed) == (2.0, 40, 29, 1, 10)
    assert step.goodput == 14.5
    assert (step.p50, step.p99) == (0.01, 0.01)


def test_a_step_leaves_out_what_the_crowd_stood_still_in() -> None:
    """Neither rates nor latencies are of these slices, unless nearly all are such."""
    disturbed = Slice(asked=100, failed=60, took=[2.0] * 40, disturbed=True)
    step = Step.of(20.0, [GOOD, disturbed, disturbed, GOOD], cpu=4.0)
    assert step == Step.of(20.0, [GOOD, GOOD], cpu=2.0)
    assert Step.of(20.0, [GOOD, *[disturbed] * 4], cpu=0).failed == 240


def test_recovery_does_not_wait_for_a_crowd_that_stood_still() -> None:
    """What it found then says nothing of the shop; until it has seen two good seconds, nothing is over."""
    disturbed = Slice(asked=100, failed=60, took=[2.0] * 40, disturbed=True)
    assert recovery([GOOD, GOOD, disturbed, disturbed, GOOD, GOOD]) == 0.0
    assert recovery([disturbed, disturbed, *[GOOD] * 4]) == 1.0
    assert recovery([GOOD, GOOD, disturbed, GOOD]) == float("inf")


def test_a_step_keeps_up_if_nearly_all_is_answered_in_time() -> None:
    """Refusals and lateness both are a miss; so is no answer at all."""
    assert Step.of(20.0, [GOOD] * 4, cpu=0).keeps_up
    assert not Step.of(20.0, [GOOD, REFUSED] * 2, cpu=0).keeps_up
    assert not Step.of(20.0, [GOOD, LATE] * 2, cpu=0).keeps_up
    assert not Step.of(20.0, [FAILED], cpu=0).keeps_up


def test_recovery_is_when_all_is_well_and_stays_so() -> None:
    """Two good seconds count; one good slice among bad ones does not."""
    assert recovery([GOOD] * 8) == 0
    assert recovery([REFUSED, GOOD, LATE, *[GOOD] * 5]) == 1.5
    assert math.isinf(recovery([GOOD, FAILED, GOOD, GOOD, REFUSED, GOOD, GOOD, GOOD]))
