"""How a line is loaded, and what is counted of it, in a time that passes only while all wait."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace

import pytest

from benchmarks.orders import line as module
from benchmarks.orders.line import Passage, arriving, closed, drained
from tests.unit.services.caching.virtual_time import in_virtual_time, now


@pytest.fixture(autouse=True)
def _virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line's seconds are the loop's."""
    monkeypatch.setattr(module, "time", SimpleNamespace(time=now))


class FakeLine:
    """Lets through `rate` a second, one after another."""

    def __init__(self, rate: float, *, slow: float = 0.0) -> None:
        self.entered: list[float] = []
        self.most = 0
        self._pace = 1 / rate
        self._slow = slow
        self._passed: list[Passage] = []
        self._free_at = 0.0
        self._under_way = 0

    async def enter(self, due: float) -> None:
        await asyncio.sleep(self._slow)
        self.entered.append(due)
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        self._free_at = max(self._free_at, now()) + self._pace
        asyncio.get_running_loop().call_at(self._free_at, self._leave, due)

    async def waiting(self) -> int:
        return self._under_way

    async def passages(self) -> list[Passage]:
        passed, self._passed = self._passed, []
        return passed

    def _leave(self, due: float) -> None:
        self._under_way -= 1
        self._passed.append(Passage(due, now()))


@in_virtual_time
async def test_a_full_line_shows_its_own_rate() -> None:
    """Clients that keep a line full, and never fuller than the window, find the rate at which it lets through."""
    line = FakeLine(rate=200)
    rate = await closed(line, window=40, clients=4, warm=0.1, seconds=0.5)
    assert 120 <= rate <= 220
    assert line.most <= 40
    assert await line.waiting() == 0
    assert await line.passages() == []


@in_virtual_time
async def test_a_small_window_bounds_the_rate() -> None:
    """With one at a time on the line, its rate is that of a single one going through."""
    line = FakeLine(rate=1000, slow=0.05)
    assert await closed(line, window=1, clients=4, warm=0.1, seconds=0.5) <= 20
    assert line.most == 1


@in_virtual_time
async def test_a_line_on_which_nothing_moves_has_no_rate() -> None:
    """A rate of zero would only fail later, as a division: it is an error that says what to do."""
    with pytest.raises(RuntimeError, match="longer"):
        await closed(FakeLine(rate=2), window=1, clients=1, warm=0.0, seconds=0.05)


@in_virtual_time
async def test_arrivals_are_random_and_repeat_from_a_seed() -> None:
    """The same seed lets the same number arrive after the same pauses, at about the rate asked for."""
    dues = []
    for _ in range(2):
        line = FakeLine(rate=10_000)
        await arriving(line, Random(7), rate=400, count=100)
        dues.append([due - line.entered[0] for due in sorted(line.entered)])
    assert dues[0] == pytest.approx(dues[1], abs=1e-5)
    assert 0.15 <= dues[0][-1] <= 0.4


@in_virtual_time
async def test_time_counts_from_when_one_was_due() -> None:
    """How long it takes to enter counts from the moment that was drawn, so that no lateness is hidden."""
    took = await arriving(FakeLine(rate=10_000, slow=0.02), Random(1), rate=500, count=20)
    assert took == pytest.approx([0.02] * 20)


@in_virtual_time
async def test_a_line_is_drained_when_nothing_waits() -> None:
    """Draining returns once all have left, and not before."""
    line = FakeLine(rate=50)
    await arriving(line, Random(1), rate=1000, count=5)
    await drained(line)
    assert len(await line.passages()) == 5
