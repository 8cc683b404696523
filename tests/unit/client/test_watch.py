from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from grpc_balancer.watch import FIRST_PAUSE, LONGEST_PAUSE, Watch


class Looks:
    """Notes when it is looked, and says that nothing has changed but at the looks in `changes`."""

    def __init__(self, *changes: int) -> None:
        self.times: list[float] = []
        self._changes = changes
        self._looked = asyncio.Event()

    def __call__(self) -> bool:
        self.times.append(asyncio.get_running_loop().time())
        self._looked.set()
        return len(self.times) in self._changes

    async def number(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.times) < number:
                self._looked.clear()
                await self._looked.wait()


async def test_it_looks_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changes the pauses grow to the longest and no further; a change makes them short again."""
    looks, pauses = Looks(10), list[float]()
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        pauses.append(delay)
        return call_later(delay, callback, *arguments)

    monkeypatch.setattr(loop, "call_later", noted)
    watch = Watch(looks)
    watch.hurry()
    await looks.number(11)
    watch.stop()
    growing = [FIRST_PAUSE * 2**number for number in range(7)]
    assert pauses == [*growing, *[LONGEST_PAUSE] * 4, FIRST_PAUSE, 2 * FIRST_PAUSE]  # the tenth look comes at rest


async def test_it_starts_and_stops() -> None:
    """It does nothing before it is told to hurry, nor after it was stopped."""
    looks = Looks()
    watch = Watch(looks)
    await asyncio.sleep(0.02)
    assert looks.times == []
    watch.hurry()
    await looks.number(1)
    watch.stop()
    seen = len(looks.times)
    await asyncio.sleep(0.02)
    assert len(looks.times) == seen


async def test_a_look_may_stop_it() -> None:
    """Stopped from within a look, it stays stopped."""
    seen: list[int] = []

    def look() -> bool:
        seen.append(1)
        watch.stop()
        return False

    watch = Watch(look)
    watch.hurry()
    await asyncio.sleep(0.05)
    assert seen == [1]
