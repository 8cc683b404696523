"""What is measured, in which order, on one database after the other."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.orders.burst import Burst, burst
from benchmarks.orders.checkout import checkout
from benchmarks.orders.hops import hops
from benchmarks.orders.line import Line, Passage, arriving, closed, drained
from benchmarks.orders.shop import Shop, running
from benchmarks.report import percentile

PART = 1 / 3
"""Of the sustainable rate: how many arrive where the time to FULFILLED is measured."""
PERCENTILES = (50, 99)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, for so many seconds each. A burst of 0 orders is none."""

    rounds: int
    window: int
    clients: int
    seconds: float
    burst: int

    @property
    def warm(self) -> float:
        """How long a line fills before anything counts."""
        return self.seconds / 4


@dataclass
class Passed:
    """A line in each round: how many a second left it, and their milliseconds at each percentile.

    `entered` is the seconds that each took to enter, of all rounds.
    """

    rates: list[float] = field(default_factory=list)
    entered: list[float] = field(default_factory=list)
    times: dict[int, list[float]] = field(default_factory=lambda: {percent: [] for percent in PERCENTILES})

    def add(self, passages: Sequence[Passage]) -> None:
        """Add a round's times."""
        for percent, values in self.times.items():
            values.append(1e3 * percentile([passage.seconds for passage in passages], percent))


@dataclass
class Measured:
    """All that was measured on one database."""

    ours: Passed = field(default_factory=Passed)
    bare: Passed = field(default_factory=Passed)
    burst: Burst | None = None


def measured(database: str, plan: Plan, seed: int) -> Measured:
    """Start a shop on the database and measure it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, running(Path(directory), database) as shop:
        return asyncio.run(_measure(shop, Path(directory), plan, Random(seed)))


async def _measure(shop: Shop, directory: Path, plan: Plan, rng: Random) -> Measured:
    result = Measured()
    async with checkout(shop, rng) as line:
        async with hops(shop.settings.nats_url, directory) as bare:
            lines: list[tuple[Line, Passed]] = [(bare, result.bare), (line, result.ours)]
            for _ in range(plan.rounds):
                await _round(lines, result.ours, plan, rng)
                lines.reverse()
        if plan.burst:
            full = median(result.ours.rates)
            result.burst = await burst(shop, line, rng, full=full, count=plan.burst, seconds=2 * plan.seconds)
    return result


async def _round(lines: Sequence[tuple[Line, Passed]], ours: Passed, plan: Plan, rng: Random) -> None:
    for line, passed in lines:
        rate = await closed(line, window=plan.window, clients=plan.clients, warm=plan.warm, seconds=plan.seconds)
        passed.rates.append(rate)
    rate = PART * median(ours.rates)
    for line, passed in lines:
        passed.entered += await arriving(line, rng, rate=rate, count=max(1, int(rate * plan.seconds)))
        await drained(line)
        passed.add(await line.passages())
