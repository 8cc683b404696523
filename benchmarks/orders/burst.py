"""Ten times as many orders as can be processed: what CreateOrder makes of it, and what becomes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from benchmarks.orders.checkout import Checkout
from benchmarks.orders.line import arriving, closed, drained
from benchmarks.orders.memory import Memory, watched
from benchmarks.orders.shop import Shop

FACTOR = 10.0
OFFERED = 1.5
"""The burst's orders a second ÷ what is sustainable with nothing held back: more, and taking the orders alone would
need all of a machine's time."""
_WINDOW, _CLIENTS = 16, 4


@dataclass(frozen=True, slots=True)
class Burst:
    """How it went. Rates are orders a second; times are seconds, those of CreateOrder from when each was due."""

    sustainable: float
    offered: float
    during: list[float]
    waiting: int
    """Orders under way when the last one had been taken."""
    absorbed: float
    """From then until all were FULFILLED."""
    processed: int
    memory: Memory

    @property
    def factor(self) -> float:
        """What was offered ÷ what was sustainable."""
        return self.offered / self.sustainable


async def burst(shop: Shop, line: Checkout, rng: Random, *, full: float, count: int, seconds: float) -> Burst:
    """Offer `count` orders to a shop held back so that it sustains a tenth of them; `full` a second is its full speed.

    What it sustains then is measured for so many seconds.
    """
    # Two payments at a time, each of two calls: one order in the time that one call takes.
    await line.slow_payments(FACTOR / (OFFERED * full))
    sustainable = await closed(line, window=_WINDOW, clients=_CLIENTS, warm=seconds / 4, seconds=seconds)
    async with watched(shop.pids) as memory:
        start = time.time()
        during = await arriving(line, rng, rate=FACTOR * sustainable, count=count)
        entered = time.time()
        waiting = await line.waiting()
        await line.slow_payments(0)
        await drained(line)
    absorbed = time.time() - entered
    processed = len(await line.passages())
    return Burst(sustainable, count / (entered - start), during, waiting, absorbed, processed, memory)
