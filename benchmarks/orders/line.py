"""Load on a line, which orders enter at one end and leave at the other: the shop, or bare JetStream.

A line is loaded the same way whichever it is, and by the same process, so that what loading costs is the same too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

_LOOK = 0.025
"""Seconds between two looks at how many are on a line."""
_DRAINED_WITHIN = 900.0
_ENTERING = 256
"""How many may be entering at a time; more are late, and their lateness counts."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One that went from end to end, in seconds since 1970."""

    entered: float
    left: float

    @property
    def seconds(self) -> float:
        return self.left - self.entered


class Line(Protocol):
    """What can be loaded."""

    async def enter(self, due: float) -> None:
        """Put one on the line, which was to enter at `due`, in seconds since 1970; return when it was taken."""

    async def waiting(self) -> int:
        """How many have entered and not left."""

    async def passages(self) -> Sequence[Passage]:
        """All that left since this was asked last. Raises `RuntimeError` if one left by another way than the end."""


async def closed(line: Line, *, window: int, clients: int, warm: float, seconds: float) -> float:
    """How many a second leave an emptied line on which `clients` keep `window` at most; the line is empty afterwards.

    The first `warm` seconds, in which it fills, do not count.

    Raises:
        RuntimeError: none left in `seconds`.
    """
    tickets: asyncio.Queue[bool] = asyncio.Queue()
    entering = 0

    async def client() -> None:
        nonlocal entering
        while await tickets.get():
            entering += 1
            await line.enter(time.time())
            entering -= 1

    first = time.time() + warm
    last = first + seconds
    async with asyncio.TaskGroup() as all_clients:
        for _ in range(clients):
            all_clients.create_task(client())
        while time.time() < last:
            for _ in range(window - await line.waiting() - entering - tickets.qsize()):
                tickets.put_nowait(True)
            await asyncio.sleep(_LOOK)
        while not tickets.empty():
            tickets.get_nowait()
        for _ in range(clients):
            tickets.put_nowait(False)
    await drained(line)
    left = sum(first <= passage.left < last for passage in await line.passages())
    if not left:
        raise RuntimeError(f"nothing got through in {seconds:g} s: measure for longer")
    return left / seconds


async def arriving(line: Line, rng: Random, *, rate: float, count: int) -> list[float]:
    """Let `count` arrive at random, `rate` a second, whether or not earlier ones got in.

    Returns the seconds that each took from the moment at which it was due until it had entered.
    """
    took: list[float] = []
    room = asyncio.Semaphore(_ENTERING)

    async def one(due: float) -> None:
        try:
            await line.enter(due)
        finally:
            room.release()
        took.append(time.time() - due)

    due = time.time()
    async with asyncio.TaskGroup() as arrivals:
        for _ in range(count):
            due += rng.expovariate(rate)
            await asyncio.sleep(due - time.time())
            await room.acquire()
            arrivals.create_task(one(due))
    return took


async def drained(line: Line) -> None:
    """Return when nothing is on the line. Raises `TimeoutError`."""
    async with asyncio.timeout(_DRAINED_WITHIN):
        while await line.waiting():  # noqa: ASYNC110 - it ends in other processes
            await asyncio.sleep(_LOOK)
