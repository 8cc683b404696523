"""Servers and a channel for the tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from tests.integration.client.echo import EchoProcess, EchoServer, snapshot
from tests.servers.ports import free_port


@pytest.fixture
async def servers() -> AsyncIterator[list[EchoServer]]:
    """Three running servers named s0, s1 and s2."""
    # At ports that no client is given while a server is down.
    started = [await EchoServer(f"s{number}", free_port()).start() for number in range(3)]
    yield started
    for server in started:
        await server.stop()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[EchoProcess]]:
    """Three servers in processes of their own, p0, p1 and p2, running."""
    made = [EchoProcess(tmp_path, f"p{number}") for number in range(3)]
    try:
        for process in made:
            process.start()
        yield made
    finally:
        for process in made:
            process.kill()


@pytest.fixture
def resolver() -> ManualResolver:
    """A resolver that has nothing to say yet."""
    return ManualResolver()


@pytest.fixture
async def channel(resolver: ManualResolver, servers: list[EchoServer]) -> AsyncIterator[Channel]:
    """A channel whose three servers are all connected."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, policy="round_robin") as made:
        await all_connected(made)
        yield made


async def all_connected(channel: Channel, number: int = 3) -> None:
    """Return once `number` endpoints are READY, as the channel's repr tells."""
    while f"{number} of " not in repr(channel):
        await channel._dispatcher.change()
