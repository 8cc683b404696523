"""What a login is, and how often a password may be tried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.errors import ResourceExhausted
from shop_services.user.login_domain import ATTEMPTS, PAUSE, REPETITION, Login, TokenReused, Tokens, attempted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LOGIN = Login("l1", "ann", "t2", "t1", NOW)


def test_a_token_that_is_used_gives_way_to_the_next() -> None:
    """The login remembers both, and when it was."""
    later = NOW + 1000 * SECOND
    assert LOGIN.renewed("t2", "t3", later) == Login("l1", "ann", "t3", "t2", later)


def test_an_immediate_repetition_changes_nothing() -> None:
    """Whoever repeats gets the token that the first use got, up to the last moment."""
    assert LOGIN.renewed("t1", "t3", NOW + REPETITION) == LOGIN


@pytest.mark.parametrize(("shown", "after"), [("t1", REPETITION + SECOND), ("t0", timedelta(0)), ("", timedelta(0))])
def test_a_token_that_was_used_before_is_found_out(shown: str, after: timedelta) -> None:
    """After a while, or if another was used since; an empty id is no token, not even of a new login."""
    with pytest.raises(TokenReused):
        LOGIN.renewed(shown, "t3", NOW + after)


def test_tokens_are_not_shown() -> None:
    """They may end up in a log line; what they open must not."""
    assert "secret" not in repr(Tokens("secret1", NOW, "secret2", NOW))


def test_ten_attempts_may_be_made_at_once_and_then_one_a_minute() -> None:
    """A refusal says how long to wait, and that is exactly long enough."""
    until = None
    for _ in range(ATTEMPTS):
        until = attempted(until, NOW)
    with pytest.raises(ResourceExhausted) as refused:
        attempted(until, NOW + 15 * SECOND)
    assert refused.value.retry_after == PAUSE - 15 * SECOND
    until = attempted(until, NOW + PAUSE)
    with pytest.raises(ResourceExhausted):
        attempted(until, NOW + PAUSE)


@given(st.lists(st.integers(0, 300), max_size=60))
def test_no_pattern_of_attempts_gets_more(pauses: list[int]) -> None:
    """In any stretch of time there are no more than ten attempts and one for each minute of it."""
    until, now, made = None, NOW, list[datetime]()
    for pause in pauses:
        now += pause * SECOND
        wait = None
        try:
            until = attempted(until, now)
            made.append(now)
        except ResourceExhausted as error:
            wait = error.retry_after
        assert wait is None or attempted(until, now + wait) > now
    for first in range(len(made)):
        for last in range(first, len(made)):
            assert last - first + 1 <= ATTEMPTS + (made[last] - made[first]) / PAUSE
