"""Waiting for what a watch of a registry shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from grpc_registry import Resolution, Snapshot


async def until(
    watch: AsyncGenerator[Resolution, None], condition: Callable[[Snapshot], bool], *, seconds: float = 15
) -> Snapshot:
    """The next snapshot of `watch` for which `condition` is true; raises `TimeoutError` if none comes."""
    async with asyncio.timeout(seconds):
        while True:
            resolution = await anext(watch)
            if isinstance(resolution, Snapshot) and condition(resolution):
                return resolution


def ids(snapshot: Snapshot) -> list[str]:
    """The ids of its instances, in its order."""
    return [instance.id for instance in snapshot.instances]
