"""The registries of a loop: one connection for each URL, open while a channel uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc_registry
from grpc_registry import Registry


class Registries:
    """Made and used in one loop."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Registry, int]] = {}
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[Registry]:
        """The registry at `url`, which is closed when its last user leaves."""
        async with self._changing:
            registry, users = self._open.get(url) or (await grpc_registry.connect(url).__aenter__(), 0)
            self._open[url] = registry, users + 1
        try:
            yield registry
        finally:
            async with self._changing:
                registry, users = self._open.pop(url)
                if users > 1:
                    self._open[url] = registry, users - 1
                else:
                    await registry.close()
