"""What is kept for a time is deleted after it, little by little, by every process of its service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

SWEEP_BATCH = 1000
"""Rows that one sweep deletes at most."""
_EVERY = 600.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def sweeping(table: str, sweep: Callable[[], Awaitable[int]]) -> AsyncIterator[None]:
    """Inside of the block `sweep` every ten minutes, and again at once while it deletes a whole `SWEEP_BATCH`."""
    task = asyncio.create_task(_sweep_for_ever(table, sweep), name=f"sweep {table}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _sweep_for_ever(table: str, sweep: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            while await sweep() == SWEEP_BATCH:
                pass
        except Exception as error:  # whatever it is, the next one may succeed
            _log.warning("sweep_failed", table=table, error=type(error).__name__)
        await asyncio.sleep(_EVERY)
