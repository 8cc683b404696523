"""Hedging: each clause of gRFC A6 that needs no network."""

from __future__ import annotations

import math

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.hedge import LEAST_PAUSE, Hedging
from grpc_balancer.retry import NEVER, Throttle
from grpc_registry.service_config import HedgingPolicy, RetryThrottling

UNAVAILABLE, INTERNAL = StatusCode.UNAVAILABLE, StatusCode.INTERNAL


def hedging(attempts: int = 3, delay: float = 0.5, throttle: Throttle | None = None) -> Hedging:
    return Hedging(HedgingPolicy(attempts, delay, frozenset({UNAVAILABLE})), throttle)


def wait(call: Hedging, now: float, *, alone: bool = False, remaining: float | None = None) -> float:
    return call.wait(now, alone=alone, remaining=remaining)


def spent() -> Throttle:
    """A throttle that allows nothing."""
    throttle = Throttle(RetryThrottling(2, 1.0))
    throttle.failed()
    return throttle


# When the next is sent


def test_attempts_are_one_delay_apart() -> None:
    """gRFC A6: "After hedgingDelay has elapsed without a successful response, the second RPC will be issued […] and so
    on, up to maxAttempts"."""
    call = hedging()
    assert wait(call, 10.0, alone=True) == 0
    call.sent(10.0)
    assert wait(call, 10.0) == 0.5
    assert wait(call, 10.25) == 0.25
    assert wait(call, 10.5) == 0
    call.sent(10.5)
    assert wait(call, 10.5) == 0.5
    call.sent(11.0)
    assert wait(call, 11.0) == NEVER


def test_without_a_delay_all_are_sent_at_once() -> None:
    """gRFC A6: "Set this to "0s", or leave unset, to immediately send all maxAttempts RPCs"."""
    call = hedging(delay=0.0)
    for _ in range(3):
        assert wait(call, 1.0) == 0
        call.sent(1.0)
    assert wait(call, 1.0) == NEVER


def test_a_non_fatal_failure_sends_the_next_at_once() -> None:
    """gRFC A6: "the next hedged request in line is sent immediately, shortcutting its hedging delay. […] Subsequent
    hedged requests will resume at hedgingDelay"."""
    call = hedging()
    call.sent(1.0)
    assert not call.failed(UNAVAILABLE, None, 1.1)
    assert wait(call, 1.1, alone=True) == 0
    call.sent(1.1)
    assert wait(call, 1.1) == 0.5


def test_another_failure_is_fatal() -> None:
    """gRFC A6: "If any other status code is received, all outstanding RPCs are canceled and the error is returned"."""
    call = hedging()
    call.sent(1.0)
    assert call.failed(INTERNAL, None, 1.1)


@pytest.mark.parametrize(("remaining", "sends"), [(0.51, True), (0.5, False), (0.1, False)])
def test_none_is_sent_at_the_deadline_or_after(remaining: float, sends: bool) -> None:
    """gRFC A6: "gRPC call deadlines apply to the entire chain of hedged requests"."""
    call = hedging()
    call.sent(1.0)
    assert (wait(call, 1.0, remaining=remaining) < NEVER) is sends


def test_an_attempt_that_reached_nobody_does_not_count() -> None:
    """gRFC A6: "transparent retries do not count toward the limit of configured RPC attempts"; one is due at once."""
    call = hedging(attempts=2)
    call.sent(1.0)
    call.sent(1.5)
    call.unsent(1.6)
    assert call.previous_attempts == 1
    assert wait(call, 1.6) == 0


def test_a_hedge_without_an_endpoint_is_put_off() -> None:
    """It looks again one delay later, or after a short pause, and is not counted."""
    call = hedging()
    call.sent(1.0)
    call.found_none(1.5)
    assert wait(call, 1.5) == 0.5
    impatient = hedging(delay=0.0)
    impatient.sent(1.0)
    impatient.found_none(1.0)
    assert wait(impatient, 1.0) == pytest.approx(LEAST_PAUSE)
    assert call.previous_attempts == impatient.previous_attempts == 1


# Pushback


def test_the_server_can_end_the_hedging() -> None:
    """gRFC A6: "If the pushback says not to retry, no further hedged requests will be sent"; it is not fatal."""
    call = hedging()
    call.sent(1.0)
    assert not call.failed(UNAVAILABLE, NEVER, 1.1)
    assert wait(call, 1.1) == wait(call, 100.0, alone=True) == NEVER


def test_the_server_can_say_when() -> None:
    """gRFC A6: "the next hedged request (if any) will be issued after the given delay has elapsed. Subsequent hedged
    requests will resume at n + hedgingDelay"; another attempt's failure does not bring it forward."""
    call = hedging(attempts=4)
    call.sent(1.0)
    call.sent(1.5)
    assert not call.failed(UNAVAILABLE, 2.0, 1.6)
    assert wait(call, 1.6) == pytest.approx(2.0)
    assert not call.failed(UNAVAILABLE, None, 1.7)
    assert wait(call, 1.7, alone=True) == pytest.approx(1.9)
    call.sent(3.6)
    assert wait(call, 3.6) == pytest.approx(0.5)


# The throttle


def test_the_first_attempt_is_not_throttled() -> None:
    """gRFC A6: "The first outgoing RPC will always be sent"."""
    assert wait(hedging(throttle=spent()), 1.0, alone=True) == 0


def test_a_throttled_hedge_is_left_out() -> None:
    """gRFC A6: "subsequent hedged RPCs will only be sent if token_count is greater than the threshold. […] The hedged
    request is cancelled": the one after it has its chance when it is due."""
    throttle = spent()
    call = hedging(throttle=throttle)
    call.sent(1.0)
    assert wait(call, 1.2) == pytest.approx(0.3)
    assert wait(call, 1.5) == 0.5
    throttle.succeeded()
    assert wait(call, 2.0) == 0
    call.sent(2.0)
    assert wait(call, 2.0) == NEVER


def test_a_throttled_hedge_is_not_waited_for() -> None:
    """gRFC A6: "if there are no other already-sent hedged RPCs the failure is returned"."""
    call = hedging(throttle=spent())
    call.sent(1.0)
    assert wait(call, 1.1, alone=True) == NEVER
    at_once = hedging(delay=0.0, throttle=spent())
    at_once.sent(1.0)
    assert wait(at_once, 1.0) == NEVER


@pytest.mark.parametrize(
    ("code", "said", "tokens"),
    [(UNAVAILABLE, None, 9), (UNAVAILABLE, 0.5, 9), (INTERNAL, None, 10), (INTERNAL, 0.5, 10), (INTERNAL, NEVER, 9)],
)
def test_only_the_servers_failures_take_tokens(code: StatusCode, said: float | None, tokens: int) -> None:
    """gRFC A6: failures are those "that fail with a status code that qualifies as a […] non-fatal status code, or that
    receive a pushback response indicating not to retry"."""
    throttle = Throttle(RetryThrottling(10, 0.1))
    call = hedging(throttle=throttle)
    call.sent(1.0)
    call.failed(code, said, 1.1)
    assert repr(throttle) == f"<Throttle {tokens} of 10 tokens>"


# Any order


@given(
    attempts=st.integers(2, 5),
    delay=st.sampled_from([0.0, 0.1, 1.0]),
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "fail", "push", "unsent", "none"]), st.floats(0, 2)), max_size=40
    ),
)
def test_never_more_than_the_maximum(attempts: int, delay: float, steps: list[tuple[str, float]]) -> None:
    """Whatever happens in whatever order, not more than `maxAttempts` reach a server, and a wait is never negative."""
    call, now, sent = hedging(attempts, delay), 0.0, 0
    for step, passed in steps:
        now += passed
        left = wait(call, now, alone=not sent)
        assert left >= 0
        match step:
            case "send" if left == 0:
                call.sent(now)
                sent += 1
            case "unsent" if sent:
                call.unsent(now)
                sent -= 1
            case "fail" if sent:
                call.failed(UNAVAILABLE, None, now)
            case "push" if sent:
                call.failed(UNAVAILABLE, passed, now)
            case "none":
                call.found_none(now)
        assert call.previous_attempts == sent <= attempts
        assert math.isfinite(wait(call, now)) is (sent < attempts)
