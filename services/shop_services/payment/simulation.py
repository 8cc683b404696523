"""Misbehaviour around a call: it takes long, or it does its work and then says nothing or takes the process down.

The work is committed before anything goes wrong. So the caller cannot know that it was done, which is the hard case.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import structlog

from shop_services.payment.cards import CRASH, SILENT, SLOW
from shop_services.payment.domain import Payment, State
from shop_services.payment.faults import Faults
from shop_services.runtime.errors import Unavailable

CRASHED = 70
"""The exit status of a process that was told to crash."""
_SLOW = 2.0
_SILENCE = 60.0

_log = structlog.get_logger(__name__)


def _die() -> None:
    _log.warning("simulated_crash")
    os._exit(CRASHED)


class Simulation:
    """Draws from `rng` whether a call goes wrong, as `faults` say. `sleep` and `die` are for tests to replace."""

    def __init__(
        self,
        faults: Callable[[], Awaitable[Faults]],
        rng: Random,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        die: Callable[[], None] = _die,
    ) -> None:
        self._faults = faults
        self._rng = rng
        self._sleep = sleep
        self._die = die
        self._stopping = asyncio.Event()

    async def refuses(self) -> bool:
        """Whether a card that pays is refused all the same."""
        return self._drawn((await self._faults()).refuse_percent)

    async def before(self, method: str = "") -> None:
        """Take the time that a call takes before it does its work, with the card `method` if it names one."""
        seconds = (await self._faults()).delay.total_seconds() + (_SLOW if method == SLOW else 0)
        if seconds:
            await self._sleep(seconds)

    async def after(self, before: State, payment: Payment) -> None:
        """Go wrong, or return for the answer to be sent. `payment` is committed, and was in the state `before`.

        Raises:
            Unavailable: the caller was to be told nothing, and would still be waiting, but the process is stopping.
        """
        captured = payment.state is State.CAPTURED and before is not State.CAPTURED
        method = payment.terms.method if payment.terms else ""
        faults = await self._faults()
        if self._drawn(faults.crash_percent) or (captured and method == CRASH):
            self._die()
        if self._drawn(faults.silent_percent) or (captured and method == SILENT):
            await self._say_nothing()

    async def stop(self) -> None:
        """Let go of the callers who are told nothing."""
        self._stopping.set()

    def _drawn(self, percent: int) -> bool:
        return self._rng.randrange(100) < percent

    async def _say_nothing(self) -> None:
        # grpc.aio cancels this when the caller's deadline has passed. A minute is for callers who have none.
        with suppress(TimeoutError):
            async with asyncio.timeout(_SILENCE):
                await self._stopping.wait()
        raise Unavailable("the payment provider does not answer")
