"""Ctrl-C and SIGTERM as events, and the race between them and the work."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupts:
    """`asked` is set by the first signal that asks this process to end, `insisted` by the second."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def tell(self) -> None:
        """What a signal does."""
        (self.insisted if self.asked.is_set() else self.asked).set()


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Turn SIGINT, SIGTERM and SIGHUP into events of the running loop, which must be the main thread's."""
    loop = asyncio.get_running_loop()
    events = Interrupts()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it: the terminal may close
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, events.tell)
    try:
        yield events
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def first(*works: Coroutine[Any, Any, T]) -> T:
    """Run all, and return what the first to end returns (or raise what it raises), once the others were cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(task for task in tasks if task in done).result()
