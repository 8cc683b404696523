"""What counts as an attempt, a retry, a hedge and a transparent retry, in gRFC A66's and A96's terms."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from grpc_balancer.course import Course
from grpc_balancer.endpoint import Route
from grpc_balancer.listener import CallSummary
from grpc_registry import Instance

ROUTE: Route = ("unary_unary", "/shop.Product/Get", True)
INSTANCE = Instance("product", "10.0.0.1:50051", id="a")

OK, UNAVAILABLE, CANCELLED = StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.CANCELLED


class Told:
    """A listener that remembers, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.started = 0
        self.picked_ids: list[str] = []
        self.attempts: list[tuple[StatusCode, float]] = []
        self.calls: list[tuple[StatusCode, CallSummary]] = []

    def clock(self) -> float:
        return self.now

    def attempt_started(self, route: Route) -> None:
        assert route is ROUTE
        self.started += 1

    def picked(self, instance: Instance) -> None:
        self.picked_ids.append(instance.id)

    def attempt_ended(self, route: Route, code: StatusCode, seconds: float) -> None:
        self.attempts.append((code, seconds))

    def call_ended(self, route: Route, code: StatusCode, summary: CallSummary) -> None:
        self.calls.append((code, summary))

    def outlier_found(self, method: str, spared: str) -> None:
        raise NotImplementedError

    def closed(self) -> None:
        raise NotImplementedError


@pytest.fixture
def told() -> Told:
    return Told()


def course(told: Told, *, hedged: bool = False) -> Course:
    return Course(told, ROUTE, told.clock, hedged=hedged)


def test_a_call_is_an_attempt(told: Told) -> None:
    """A call that is picked at once and answered after 2 s is one attempt of 2 s, and nothing was repeated."""
    one = course(told)
    end = one.found(INSTANCE, 0)
    told.now += 2
    end(OK)
    one.ended(OK)
    assert (told.started, told.picked_ids) == (1, ["a"])
    assert told.attempts == [(OK, 2.0)]
    assert told.calls == [(OK, CallSummary(2.0))]


def test_an_attempt_begins_when_it_looks_for_an_endpoint(told: Told) -> None:
    """The time before an endpoint is found is part of the attempt, which counts as started from the beginning."""
    one = course(told)
    assert told.started == 1
    told.now += 3
    end = one.found(INSTANCE, 0)
    told.now += 2
    end(OK)
    assert told.attempts == [(OK, 5.0)]


def test_a_call_that_finds_no_endpoint_made_an_attempt(told: Told) -> None:
    """An attempt ends with the call if it has found nothing by then."""
    one = course(told)
    told.now += 1
    one.ended(UNAVAILABLE)
    assert told.started == 1
    assert told.attempts == [(UNAVAILABLE, 1.0)]
    assert told.calls == [(UNAVAILABLE, CallSummary(1.0))]


def test_a_retry_and_its_delay(told: Told) -> None:
    """The pause before a retry is no part of an attempt, and is told of."""
    one = course(told)
    end = one.found(INSTANCE, 0)
    told.now += 1
    end(UNAVAILABLE)
    one.looks_again(0.5, 1)
    told.now += 0.5
    end = one.found(INSTANCE, 1)
    told.now += 2
    end(OK)
    one.ended(OK)
    assert told.attempts == [(UNAVAILABLE, 1.0), (OK, 2.0)]
    assert told.calls == [(OK, CallSummary(3.5, retries=1, retry_delay=0.5))]


def test_a_retry_that_waits_for_an_endpoint_began_when_its_pause_was_over(told: Told) -> None:
    """Of three seconds after a failure one is delay, and two are the search of the attempt that follows."""
    one = course(told)
    one.found(INSTANCE, 0)(UNAVAILABLE)
    one.looks_again(1.0, 1)
    told.now += 3
    one.found(INSTANCE, 1)(OK)
    one.ended(OK)
    assert told.attempts[-1] == (OK, 2.0)
    assert told.calls[0][1].retry_delay == 1.0


def test_a_retry_that_was_not_made_does_not_count(told: Told) -> None:
    """A call that is cancelled while it backs off has made one attempt."""
    one = course(told)
    one.found(INSTANCE, 0)(UNAVAILABLE)
    one.looks_again(1.0, 1)
    told.now += 0.5
    one.ended(CANCELLED)
    assert told.started == len(told.attempts) == 1
    assert told.calls == [(CANCELLED, CallSummary(0.5))]


def test_a_retry_that_finds_nothing_until_the_deadline_counts(told: Told) -> None:
    """A call whose deadline passes while its retry looks for an endpoint has made two attempts."""
    one = course(told)
    one.found(INSTANCE, 0)(UNAVAILABLE)
    one.looks_again(1.0, 1)
    told.now += 4
    one.ended(StatusCode.DEADLINE_EXCEEDED)
    assert told.started == 2
    assert told.attempts[-1] == (StatusCode.DEADLINE_EXCEEDED, 3.0)
    assert told.calls[0][1] == CallSummary(4.0, retries=1, retry_delay=1.0)


def test_an_attempt_that_finds_nothing_may_be_retried(told: Told) -> None:
    """Each search that ends in a backoff was an attempt that failed with UNAVAILABLE."""
    one = course(told)
    one.looks_again(1.0, 1)
    told.now += 1
    one.looks_again(1.0, 2)
    told.now += 1
    one.found(INSTANCE, 2)(OK)
    one.ended(OK)
    assert told.started == 3
    assert [code for code, _ in told.attempts] == [UNAVAILABLE, UNAVAILABLE, OK]
    assert told.calls[0][1] == CallSummary(2.0, retries=2, retry_delay=2.0)


def test_what_reached_nobody_is_repeated_transparently(told: Told) -> None:
    """An attempt with the number of the one before it is a transparent retry, and no retry."""
    one = course(told)
    one.found(INSTANCE, 0)(UNAVAILABLE)
    one.looks_again(0.0, 0)
    one.found(INSTANCE, 0)(OK)
    one.ended(OK)
    assert told.started == 2
    assert told.calls[0][1] == CallSummary(0.0, transparent_retries=1)


def test_hedges(told: Told) -> None:
    """Attempts in progress at the same time are hedges, there is no delay, and a loser may end after the call."""
    one = course(told, hedged=True)
    slow = one.found(INSTANCE, 0)
    told.now += 1
    fast = one.found(INSTANCE, 1)
    told.now += 1
    fast(OK)
    one.ended(OK)
    slow(CANCELLED)
    assert told.attempts == [(OK, 1.0), (CANCELLED, 2.0)]
    assert told.calls == [(OK, CallSummary(2.0, hedges=1))]


def test_a_hedge_that_reached_nobody_is_repeated_transparently(told: Told) -> None:
    """Of three attempts one is a hedge if another reached nobody."""
    one = course(told, hedged=True)
    first = one.found(INSTANCE, 0)
    one.found(INSTANCE, 1)(UNAVAILABLE)
    one.found(INSTANCE, 1)(OK)
    one.ended(OK)
    first(CANCELLED)
    assert told.calls[0][1] == CallSummary(0.0, transparent_retries=1, hedges=1)


def test_a_call_ends_once(told: Told) -> None:
    """A second end says nothing, and a status that gRPC does not tell is UNKNOWN."""
    one = course(told)
    one.found(INSTANCE, 0)(None)
    one.ended(None)
    one.ended(OK)
    assert told.attempts == [(StatusCode.UNKNOWN, 0.0)]
    assert [code for code, _ in told.calls] == [StatusCode.UNKNOWN]
