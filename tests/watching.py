"""Waiting for what a watch of a registry shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from grpc_registry import ConfigSnapshot, Snapshot, Unresolved

Known = TypeVar("Known", Snapshot, ConfigSnapshot)


async def until(
    watch: AsyncGenerator[Known | Unresolved, None], condition: Callable[[Known], bool], *, seconds: float = 15
) -> Known:
    """The next snapshot of `watch` for which `condition` is true; raises `TimeoutError` if none comes."""
    async with asyncio.timeout(seconds):
        while True:
            resolution = await anext(watch)
            if not isinstance(resolution, Unresolved) and condition(resolution):
                return resolution


def ids(snapshot: Snapshot) -> list[str]:
    """The ids of its instances, in its order."""
    return [instance.id for instance in snapshot.instances]
