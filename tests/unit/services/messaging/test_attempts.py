"""How an attempt ends says what follows, and what is logged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import Random

import pytest
from structlog.testing import capture_logs

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging import attempts
from shop_services.messaging.attempts import LONGEST_REASON, Again, Done, GivenUp, attempt
from shop_services.messaging.bus import Handler, Reject
from shop_services.messaging.envelopes import envelope
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.context import current
from shop_services.runtime.errors import Unavailable

POLICY = RetryPolicy(attempts=3, first=0.5, factor=2, jitter=0)
MESSAGE = envelope("order.reserve", "order-1", 1, id="m", time=datetime(2026, 11, 22, tzinfo=UTC))


def handler_raising(error: BaseException | None) -> Handler:
    async def handler(_envelope: Envelope) -> None:
        if error is not None:
            raise error

    return handler


async def ended(error: BaseException | None, number: int = 1) -> Done | Again | GivenUp:
    return await attempt(handler_raising(error), MESSAGE, number, POLICY, Random(1))


async def test_a_handler_that_returns_is_done() -> None:
    """Nothing follows, and a line in the log says what was handled."""
    with capture_logs() as logs:
        assert await ended(None) == Done()
    [line] = logs
    assert (line["event"], line["order"], line["attempt"]) == ("message handled", MESSAGE.order_id, 1)


@pytest.mark.parametrize(("number", "delay"), [(1, 0.5), (2, 1.0)])
async def test_a_failure_is_tried_again_after_its_backoff(number: int, delay: float) -> None:
    """The delay is that of the policy for so many failures."""
    assert await ended(ValueError("x"), number) == Again("ValueError: x", delay)


async def test_the_last_failure_gives_up() -> None:
    """So does every one after it."""
    assert await ended(ValueError("x"), 3) == GivenUp("ValueError: x")
    assert await ended(ValueError("x"), 4) == GivenUp("ValueError: x")


async def test_reject_gives_up_at_once() -> None:
    """With the handler's own words as the reason, or some if it has none."""
    assert await ended(Reject("no such order")) == GivenUp("no such order")
    assert await ended(Reject()) == GivenUp("rejected")


async def test_a_reason_is_kept_short() -> None:
    """However long the error's message is."""
    outcome = await ended(ValueError("x" * 10_000))
    assert isinstance(outcome, Again)
    assert len(outcome.reason) == LONGEST_REASON


async def test_being_cancelled_is_no_outcome() -> None:
    """It reaches whoever called, and its context is left."""
    contexts = []
    begun = asyncio.Event()

    async def handler(_envelope: Envelope) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def caller() -> None:
        try:
            await attempt(handler, MESSAGE, 1, POLICY, Random(1))
        finally:
            contexts.append(current())

    task = asyncio.create_task(caller())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert contexts == [None]


async def test_what_else_was_cancelled_is_a_failure() -> None:
    """A handler that waited for something that was cancelled, as a call of a closed channel is, is tried again."""
    assert await ended(asyncio.CancelledError()) == Again("Unavailable: what its handler waited for was cancelled", 0.5)


async def test_a_handler_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled after the longest time; a `TimeoutError` of its own is told as such."""
    monkeypatch.setattr(attempts, "LONGEST_ATTEMPT", 0.02)
    cancelled = []

    async def handler(_envelope: Envelope) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    outcome = await attempt(handler, MESSAGE, 1, POLICY, Random(1))
    assert outcome == Again("DeadlineExceeded: its handler did not end within 0.02 s", 0.5)
    assert cancelled == [True]
    assert await ended(TimeoutError("mine")) == Again("TimeoutError: mine", 0.5)


async def test_a_defect_is_logged_with_its_traceback_and_an_outage_without() -> None:
    """Each line says of which message, which attempt, and why."""
    with capture_logs() as logs:
        await ended(ValueError("x"))
        await ended(Unavailable("the product service is away"), 2)
        await ended(Unavailable("the product service is away"), 3)
    assert [(line["event"], line["log_level"], line["attempt"]) for line in logs] == [
        ("message failed", "error", 1),
        ("message failed", "warning", 2),
        ("message given up", "error", 3),
    ]
    assert isinstance(logs[0]["exc_info"], ValueError)
    assert logs[1]["exc_info"] is None
    assert logs[1]["reason"] == "Unavailable: the product service is away"
    assert {line["message"] for line in logs} == {"m"}
