"""Misbehaviour on demand: which calls go wrong, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from shop_services.payment.cards import CRASH, SILENT, SLOW
from shop_services.payment.domain import Entry, Payment, State, Terms
from shop_services.payment.faults import Faults
from shop_services.payment.simulation import Simulation
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.money import Money


class Died(BaseException):
    """Takes the place of the end of the process."""


def _die() -> None:
    raise Died


class Stage:
    """A simulation with those faults, which neither sleeps nor dies; `slept` are the seconds it would have slept."""

    def __init__(self, faults: Faults | None = None, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.slept: list[float] = []
        self.simulation = Simulation(self._current, Random(seed), sleep=self._sleep, die=_die)

    async def _current(self) -> Faults:
        return self.faults

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def outcome(self, before: State, payment: Payment) -> str:
        """What comes after the work: an answer, silence or the end."""
        try:
            async with asyncio.timeout(0.01):
                await self.simulation.after(before, payment)
        except TimeoutError:
            return "silent"
        except Died:
            return "crashed"
        return "answered"


def _payment(states: Sequence[State], method: str = "pm_card_visa") -> Payment:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Payment("o1", Terms(Money("EUR", 500), method), tuple(Entry(i, s, 0, now) for i, s in enumerate(states)))


_AUTHORIZED = (State.AUTHORIZED,)
_CAPTURED = (State.AUTHORIZED, State.CAPTURED)


async def test_nothing_goes_wrong_unless_it_is_told_to() -> None:
    """Without faults no call waits, is refused, or goes unanswered."""
    stage = Stage()
    await stage.simulation.before("pm_card_visa")
    assert not stage.slept
    assert not any([await stage.simulation.refuses() for _ in range(100)])
    assert await stage.outcome(State.AUTHORIZED, _payment(_CAPTURED)) == "answered"


@pytest.mark.parametrize(("method", "outcome"), [(SILENT, "silent"), (CRASH, "crashed")])
async def test_a_card_of_ours_goes_wrong_when_it_has_been_charged(method: str, outcome: str) -> None:
    """The first capture does; authorizing, capturing again and refunding do not."""
    stage = Stage()
    assert await stage.outcome(State.UNSEEN, _payment(_AUTHORIZED, method)) == "answered"
    assert await stage.outcome(State.AUTHORIZED, _payment(_CAPTURED, method)) == outcome
    assert await stage.outcome(State.CAPTURED, _payment(_CAPTURED, method)) == "answered"
    assert await stage.outcome(State.CAPTURED, _payment((*_CAPTURED, State.REFUNDED), method)) == "answered"


async def test_delays_add_up() -> None:
    """The slow card waits two seconds, and the delay of the faults is waited by every call."""
    stage = Stage(Faults(delay=timedelta(milliseconds=300)))
    await stage.simulation.before()
    await stage.simulation.before(SLOW)
    assert stage.slept == [0.3, 2.3]


async def test_a_hundred_percent_is_every_call() -> None:
    """Each fault hits every call then; a crash comes before silence."""
    refusing, silent = Stage(Faults(refuse_percent=100)), Stage(Faults(silent_percent=100))
    crashing = Stage(Faults(silent_percent=100, crash_percent=100))
    for _ in range(10):
        assert await refusing.simulation.refuses()
        assert await silent.outcome(State.AUTHORIZED, _payment(_AUTHORIZED)) == "silent"
        assert await crashing.outcome(State.AUTHORIZED, _payment(_AUTHORIZED)) == "crashed"


async def test_a_seed_repeats_exactly() -> None:
    """The same seed refuses the same calls, about as many as the percentage says."""

    async def refused(seed: int) -> list[bool]:
        simulation = Stage(Faults(refuse_percent=30), seed).simulation
        return [await simulation.refuses() for _ in range(1000)]

    first = await refused(1)
    assert await refused(1) == first
    assert 250 < sum(first) < 350


async def test_a_process_that_stops_keeps_nobody_waiting() -> None:
    """Callers who are told nothing are let go, with the status that says the same call may succeed later."""
    stage = Stage(Faults(silent_percent=100))
    waiting = asyncio.create_task(stage.simulation.after(State.AUTHORIZED, _payment(_CAPTURED)))
    await stage.simulation.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        async with asyncio.timeout(5):
            await waiting
