"""Retries: each clause of gRFC A6 that needs no network."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from grpc_balancer.retry import NEVER, PREVIOUS_ATTEMPTS, Retrying, Throttle, announce, pushback
from grpc_registry.service_config import RetryPolicy, RetryThrottling

UNAVAILABLE = StatusCode.UNAVAILABLE
POLICY = RetryPolicy(4, 0.1, 1.0, 2.0, frozenset({UNAVAILABLE}))


class Middle(random.Random):
    """Chance that always falls in the middle: without jitter."""

    def random(self) -> float:
        return 0.5


def retrying(policy: RetryPolicy = POLICY, throttle: Throttle | None = None) -> Retrying:
    return Retrying(policy, throttle, Middle())


def delay(
    call: Retrying,
    code: StatusCode = UNAVAILABLE,
    said: float | None = None,
    *,
    repeatable: bool = True,
    remaining: float | None = None,
) -> float:
    return call.delay(code, said, repeatable=repeatable, remaining=remaining)


# Attempts


def test_attempts_end_at_the_maximum() -> None:
    """gRFC A6: "`maxAttempts` specifies the maximum number of RPC attempts, including the original request"."""
    call = retrying()
    assert [delay(call) for _ in range(4)] == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.4), NEVER]
    assert delay(call) == NEVER


def test_a_status_that_is_not_listed_is_final() -> None:
    """gRFC A6: "Fatal Status Code […] Don't retry", even if the server says when to try again."""
    call = retrying()
    assert delay(call, StatusCode.INVALID_ARGUMENT) == NEVER
    assert delay(call, StatusCode.INVALID_ARGUMENT, said=0.5) == NEVER


def test_a_committed_call_is_not_repeated() -> None:
    """gRFC A6: cases "when the RPC has been *committed*, and thus it does not make sense to perform the retry"."""
    assert delay(retrying(), repeatable=False) == NEVER


# Backoff


@given(
    initial=st.floats(0.001, 10),
    most=st.floats(0.001, 100),
    multiplier=st.floats(0.01, 1e300),
    seed=st.integers(),
)
def test_the_backoff_grows_within_its_jitter(initial: float, most: float, multiplier: float, seed: int) -> None:
    """gRFC A6: after `initialBackoff * random(0.8, 1.2)`, then
    `min(initialBackoff*backoffMultiplier**(n-1), maxBackoff) * random(0.8, 1.2)`."""
    policy = RetryPolicy(5, initial, most, multiplier, frozenset({UNAVAILABLE}))
    call = Retrying(policy, None, random.Random(seed))
    for n in range(1, 5):
        grown = Fraction(initial) * Fraction(multiplier) ** (n - 1)
        base = initial if n == 1 else float(min(grown, Fraction(most)))
        assert 0.8 * base * 0.999999 <= delay(call) <= 1.2 * base * 1.000001


def test_the_jitter_uses_its_whole_range() -> None:
    """gRFC A6: "Jitter of plus or minus 0.2 is applied to the backoff delay"; delays below and above it do occur."""
    rng = random.Random(7)
    delays = [delay(Retrying(POLICY, None, rng)) for _ in range(1000)]
    assert 0.08 <= min(delays) < 0.082
    assert 0.118 < max(delays) <= 0.12


def test_a_seed_repeats_the_delays() -> None:
    """All randomness comes from the generator that is given."""
    first, second = (Retrying(POLICY, None, random.Random(3)) for _ in range(2))
    assert [delay(first) for _ in range(3)] == [delay(second) for _ in range(3)]


# The deadline


@pytest.mark.parametrize(("remaining", "waits"), [(0.1001, True), (0.1, False), (0.05, False), (0.0, False)])
def test_no_wait_reaches_the_deadline(remaining: float, waits: bool) -> None:
    """gRFC A6: "the operation will fail after that time regardless of how many attempts were configured": a wait that
    would not end before the deadline is not begun."""
    assert (delay(retrying(), remaining=remaining) < NEVER) is waits
    assert (delay(retrying(), said=0.1, remaining=remaining) < NEVER) is waits


# Pushback


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        (["0"], 0.0),
        (["5"], 0.005),
        (["2500"], 2.5),
        (["2147483647"], 2_147_483.647),
        (["2147483648"], NEVER),
        (["99999999999"], NEVER),
        (["-1"], NEVER),
        (["-9223372036854775808"], NEVER),  # what C-core makes of any value that is no number
        (["-0"], NEVER),
        (["+5"], NEVER),
        (["05"], NEVER),
        (["5 "], NEVER),
        (["5\n"], NEVER),
        (["5.0"], NEVER),
        (["0x5"], NEVER),
        (["\u0665"], NEVER),
        ([""], NEVER),
        (["soon"], NEVER),
        ([b"5"], NEVER),
        (["5", "5"], NEVER),
    ],
)
def test_pushback_is_a_number_of_milliseconds(values: list[str | bytes], seconds: float | None) -> None:
    """gRFC A6: an "integer with no unnecessary leading zeros"; "if the value for pushback is negative or unparseble,
    then it will be seen as the server asking the client not to retry at all"."""
    assert pushback(values) == seconds


@given(st.text() | st.binary())
def test_pushback_is_never_an_error(value: str | bytes) -> None:
    """Whatever a server sends is a delay or a refusal."""
    seconds = pushback([value])
    assert seconds is not None
    assert seconds >= 0


def test_the_server_says_how_long_to_wait() -> None:
    """gRFC A6: "it will retry after exactly that delay. For subsequent retries, the delay period will be reset to the
    `initialBackoff` setting and scale"."""
    policy = RetryPolicy(5, 0.1, 1.0, 2.0, frozenset({UNAVAILABLE}))
    call = Retrying(policy, None, random.Random(1))
    delay(call)
    assert delay(call, said=0.7) == 0.7
    assert 0.08 <= delay(call) <= 0.12
    assert 0.16 <= delay(call) <= 0.24


def test_a_pushback_may_be_longer_than_the_longest_backoff() -> None:
    """`maxBackoff` bounds what the client chooses, not what the server asks for."""
    assert delay(retrying(), said=30.0) == 30.0


def test_a_pushback_gives_no_further_attempt() -> None:
    """gRFC A6: "If the client has already exhausted its `maxAttempts`, the call will not be retried even if the server
    says to retry after a given delay"."""
    call = retrying()
    for _ in range(3):
        assert delay(call, said=0.0) == 0.0
    assert delay(call, said=0.0) == NEVER


def test_the_server_can_refuse_retries() -> None:
    """gRFC A6: "Pushback: Don't Retry […] return failure to client application"."""
    assert delay(retrying(), said=NEVER) == NEVER


# The throttle


def test_retries_stop_at_half_of_the_tokens() -> None:
    """gRFC A6: "If `token_count` is less than or equal to the threshold, defined to be `(maxTokens / 2)`, then RPCs
    will not be retried until `token_count` rises over the threshold"."""
    throttle = Throttle(RetryThrottling(10, 0.1))
    for _ in range(4):
        assert delay(retrying(throttle=throttle)) < NEVER
    assert repr(throttle) == "<Throttle 6 of 10 tokens>"
    assert delay(retrying(throttle=throttle)) == NEVER  # 5 of 10 are left
    throttle.succeeded()
    assert throttle.allows
    assert repr(throttle) == "<Throttle 5.1 of 10 tokens>"
    assert delay(retrying(throttle=throttle)) == NEVER  # its own failure counts first


def test_one_throttle_is_shared_by_all_calls() -> None:
    """gRFC A6: "Every outgoing RPC (regardless of service or method invoked) will effect `token_count`"."""
    throttle = Throttle(RetryThrottling(4, 1.0))
    other = RetryPolicy(2, 1.0, 1.0, 1.0, frozenset({StatusCode.ABORTED}))
    assert delay(retrying(throttle=throttle)) < NEVER
    assert delay(retrying(other, throttle), StatusCode.ABORTED) == NEVER


@pytest.mark.parametrize(
    ("code", "said", "repeatable", "tokens"),
    [
        (StatusCode.INVALID_ARGUMENT, None, True, 10),
        (StatusCode.INVALID_ARGUMENT, 0.5, True, 10),
        (StatusCode.INVALID_ARGUMENT, NEVER, True, 9),
        (UNAVAILABLE, NEVER, True, 9),
        (UNAVAILABLE, None, False, 9),
        (UNAVAILABLE, None, True, 9),
    ],
)
def test_only_the_servers_failures_take_tokens(
    code: StatusCode, said: float | None, repeatable: bool, tokens: int
) -> None:
    """gRFC A6: failures are those "that fail with a status code that qualifies as a retryable […], or that receive a
    pushback response indicating not to retry", whether or not that call is made again."""
    throttle = Throttle(RetryThrottling(10, 0.1))
    delay(retrying(throttle=throttle), code, said, repeatable=repeatable)
    assert repr(throttle) == f"<Throttle {tokens} of 10 tokens>"


class Tokens(RuleBasedStateMachine):
    """Any order of successes and failures, against the text of A6 in exact fractions."""

    @initialize(most=st.integers(1, 1000), thousandths=st.integers(1, 3000))
    def begin(self, most: int, thousandths: int) -> None:
        self.throttle = Throttle(RetryThrottling(most, thousandths / 1000))
        self.most, self.ratio, self.count = Fraction(most), Fraction(thousandths, 1000), Fraction(most)

    @rule(times=st.integers(1, 30))
    def fail(self, times: int) -> None:
        for _ in range(times):
            self.throttle.failed()
            self.count = max(self.count - 1, Fraction(0))

    @rule(times=st.integers(1, 30))
    def succeed(self, times: int) -> None:
        for _ in range(times):
            self.throttle.succeeded()
            self.count = min(self.count + self.ratio, self.most)

    @invariant()
    def allows_above_half(self) -> None:
        assert self.throttle.allows == (self.count > self.most / 2)


TestTokens = Tokens.TestCase


# What the server sees


def test_attempts_after_the_first_say_how_many_came_before() -> None:
    """gRFC A6: "it will not be present on the first RPC, will be 1 for the second RPC, and so on"."""
    call = retrying()
    assert call.previous_attempts == 0
    delay(call)
    assert announce(None, call.previous_attempts) == [(PREVIOUS_ATTEMPTS, "1")]
    delay(call)
    assert announce([("k", "v"), ("k", "w")], call.previous_attempts) == [
        ("k", "v"),
        ("k", "w"),
        (PREVIOUS_ATTEMPTS, "2"),
    ]


def test_a_count_that_was_passed_on_is_replaced() -> None:
    """Metadata of an incoming call that a caller passes on does not add another call's attempts to this one's."""
    call = retrying()
    delay(call)
    assert announce([(PREVIOUS_ATTEMPTS, "7"), ("k", b"v")], call.previous_attempts) == [
        ("k", b"v"),
        (PREVIOUS_ATTEMPTS, "1"),
    ]


def test_a_failure_that_is_final_is_no_attempt() -> None:
    """The count says how many attempts were made, not how many were thought of."""
    call = retrying()
    delay(call, StatusCode.INTERNAL)
    assert call.previous_attempts == 0
