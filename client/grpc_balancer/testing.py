"""For tests of code that uses this library: a resolver told what to say, and an endpoint without a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from grpc import ChannelConnectivity

from grpc_balancer.load import Load
from grpc_balancer.outlier import Record
from grpc_registry import Instance, Resolution

__all__ = ["FakeEndpoint", "ManualResolver"]


class ManualResolver:
    """A `grpc_registry.Resolver` that says what it is told. Until then its readers wait.

    >>> resolver = ManualResolver()
    >>> resolver.push(Snapshot("product", 1, (Instance("product", "127.0.0.1:50051"),)))
    """

    def __init__(self) -> None:
        self._latest: dict[str, Resolution] = {}
        self._readers: dict[str, set[asyncio.Event]] = {}

    def push(self, resolution: Resolution) -> None:
        """Say this of its service, now and to later readers. A slow reader gets the latest only."""
        self._latest[resolution.service] = resolution
        for news in self._readers.get(resolution.service, ()):
            news.set()

    def readers(self, service: str) -> int:
        """How many read `service` now."""
        return len(self._readers.get(service, ()))

    async def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        news = asyncio.Event()
        if service in self._latest:
            news.set()
        readers = self._readers.setdefault(service, set())
        readers.add(news)
        try:
            while True:
                await news.wait()
                news.clear()
                yield self._latest[service]
        finally:
            readers.discard(news)


class FakeEndpoint:
    """What a picker or a `Balancer` sees of an endpoint, without one: set its fields as the test needs them."""

    def __init__(
        self,
        instance: Instance,
        connectivity: ChannelConnectivity = ChannelConnectivity.IDLE,
        error: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.instance = instance
        self.connectivity = connectivity
        self.error = error
        self.load = Load(clock)
        self.record = Record()
        self.weight = instance.weight

    def __repr__(self) -> str:
        return f"<FakeEndpoint {self.instance.id} {self.connectivity.name}>"
