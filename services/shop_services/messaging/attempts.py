"""One attempt at a message, and what follows from how it ended: the same rules for every bus."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from random import Random
from time import perf_counter

import structlog

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Handler, Reject
from shop_services.messaging.envelopes import handling
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import DeadlineExceeded, Unavailable

_log = structlog.get_logger(__name__)

TRANSIENT = (Unavailable, DeadlineExceeded)
"""What a handler may run into without a defect (also `Contended`, `BusFull` …); a traceback would say nothing."""

LONGEST_REASON = 500
"""Characters of a reason that are kept."""

LONGEST_ATTEMPT = 120.0
"""Seconds after which an attempt is cancelled and has failed: one that hangs would keep its message for ever. Several
times what any handler may wait for, with the 30 s of a mail server as the longest."""


@dataclass(frozen=True, slots=True)
class Done:
    """The handler has returned."""


@dataclass(frozen=True, slots=True)
class Again:
    """It failed, and is to be tried again after `delay` seconds."""

    reason: str
    delay: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It failed for good, and belongs to the dead letters."""

    reason: str


async def attempt(
    handler: Handler, envelope: Envelope, number: int, retries: RetryPolicy, rng: Random
) -> Done | Again | GivenUp:
    """Call `handler`; `number` counts the attempts from 1. Being cancelled is passed on, all else is an outcome."""
    with handling(envelope):
        began = perf_counter()
        try:
            await _call(handler, envelope)
        except Reject as error:
            reason = str(error)[:LONGEST_REASON] or "rejected"
            _log.warning("message rejected", **_facts(envelope, number), reason=reason)
            return GivenUp(reason)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
            last = number >= retries.attempts
            _log.log(
                logging.ERROR if last or not isinstance(error, TRANSIENT) else logging.WARNING,
                "message given up" if last else "message failed",
                **_facts(envelope, number),
                reason=reason,
                exc_info=None if isinstance(error, TRANSIENT) else error,
            )
            return GivenUp(reason) if last else Again(reason, retries.delay(number, rng))
        _log.info("message handled", **_facts(envelope, number), ms=round((perf_counter() - began) * 1000, 1))
        return Done()


async def _call(handler: Handler, envelope: Envelope) -> None:
    this = asyncio.current_task()
    limit = asyncio.timeout(LONGEST_ATTEMPT)
    try:
        async with limit:
            await handler(envelope)
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceeded(f"its handler did not end within {LONGEST_ATTEMPT:g} s") from None
        raise
    except asyncio.CancelledError as error:
        if this is None or this.cancelling():
            raise
        # Not we, but something that it waited for: passed on, this would end the worker's loop for good.
        raise Unavailable("what its handler waited for was cancelled") from error


def _facts(envelope: Envelope, number: int) -> dict[str, object]:
    return {"message": envelope.id, "type": envelope.type, "order": envelope.order_id, "attempt": number}
