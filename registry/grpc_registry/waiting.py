"""Two ways to wait that asyncio lacks: for something that others change, and for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Changes:
    """Lets tasks wait until something that others change is as they need it. Telling never blocks."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Wake all that wait, so that they look again."""
        told, self._next = self._next, asyncio.Event()
        told.set()

    async def told(self) -> None:
        """Return at the next `tell`."""
        await self._next.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition()` is true; it is asked now, and again after each `tell`."""
        while not condition():
            await self.told()


async def first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, cancel the others and wait for them; raises what the first that ended raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done: set[asyncio.Task[None]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await stop(*tasks)
    error = next((task.exception() for task in done if task.exception() is not None), None)
    # An error's traceback knows this frame, so what is left in it lives as long as the error, and that as long as what
    # is left in it: connections, for example, until the garbage collector comes by.
    del tasks, done
    try:
        if error is not None:
            raise error
    finally:
        del error


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel `tasks` and return when all have ended, however they did."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
