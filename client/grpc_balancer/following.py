"""Following a stream of news for ever: what it says is taken, and when it fails it is opened again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between attempts at a stream that fails, doubling from the first to the longest."""

_REMIND_SECONDS = 300.0
"""Between two lines in the log about it, as for a registry that is away."""


async def follow(
    what: str,
    stream: Callable[[], AsyncGenerator[T, None]],
    take: Callable[[T], Any],
    failed: Callable[[str], Any],
) -> None:
    """Give each item of `stream()` to `take` until it ends. If it fails, tell `failed` why and open it again.

    A resolver should not fail, nor should its failure end the resolution for good. What it said last stays in use.
    """
    pause, said = _FIRST_PAUSE, -_REMIND_SECONDS
    clock = asyncio.get_running_loop().time
    while True:
        try:
            async with aclosing(stream()) as items:
                async for item in items:
                    pause = _FIRST_PAUSE
                    take(item)
            return
        except Exception as error:
            if clock() - said >= _REMIND_SECONDS:
                said = clock()
                _log.warning("%s failed; what was known last stays in use", what, exc_info=True)
            failed(f"{what} failed: {error!r}")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
