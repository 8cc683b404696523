"""Nothing is left behind: no load, no calls, no connections, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from grpc_balancer import Channel
from grpc_balancer.endpoint import Endpoint
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot


@pytest.mark.parametrize("seed", range(6))
async def test_no_load_is_left(resolver: ManualResolver, servers: list[EchoServer], seed: int) -> None:
    """After any interleaving of starts, ends, cancellations, abandonments and removals nothing is outstanding."""
    rng = random.Random(seed)
    revision = 1
    seen: set[Endpoint] = set()
    calls: list[Any] = []
    resolver.push(snapshot(revision, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, rng=rng, drain_seconds=0.2) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        starts: list[Callable[[], Any]] = [
            lambda: echo.unary_unary(b"sleep 0.01", timeout=5),
            lambda: echo.unary_unary(b"sleep 30", timeout=0.05),
            lambda: echo.unary_unary(b"sleep 30"),
            lambda: echo.unary_unary(b"fail ABORTED no"),
            lambda: echo.unary_stream(b"repeat 3"),
            lambda: echo.stream_unary(iter([b"a", b"b"])),
            lambda: echo.stream_unary(),
            lambda: echo.stream_stream(),
        ]
        for _ in range(150):
            seen.update(channel._dispatcher.balancer.endpoints)
            match rng.randrange(8):
                case 0 | 1 | 2 | 3:
                    calls.append(rng.choice(starts)())
                case 4 if calls:
                    rng.choice(calls).cancel()
                case 5 if calls:
                    calls.pop(rng.randrange(len(calls)))  # abandoned
                case 6:
                    revision += 1
                    listed = [server for server in servers if rng.random() < 0.7] or servers
                    resolver.push(snapshot(revision, *(server.instance() for server in listed)))
                case _:
                    await asyncio.sleep(rng.choice([0, 0, 0.005]))
        for call in calls:
            call.cancel()
        calls.clear()
        gc.collect()
        # What nobody holds and no deadline ends is one kind only: a unary call of 30 s, which goes on as in grpc.aio.
        for server in servers:
            await server.stop()
        async with asyncio.timeout(10):
            await asyncio.gather(*(endpoint.load.wait_idle() for endpoint in seen))


async def test_finished_calls_are_forgotten(channel: Channel) -> None:
    """A call that has ended and that nobody holds is garbage, whatever its kind."""
    echo = Echo(channel)
    unary, stream = echo.unary_unary(b"x"), echo.unary_stream(b"x")
    both = echo.stream_stream(iter([b"x"]))
    await unary
    assert [response async for response in stream] == [response async for response in both] == [b"x"]
    references: list[weakref.ref[Any]] = [weakref.ref(unary), weakref.ref(stream), weakref.ref(both)]
    del unary, stream, both
    await asyncio.sleep(0.01)
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


async def test_retired_endpoints_are_forgotten(
    channel: Channel, resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """An endpoint that has left and closed is garbage."""
    await asyncio.gather(*(Echo(channel).unary_unary(b"x") for _ in range(6)))
    references = [weakref.ref(endpoint) for endpoint in channel._dispatcher.balancer.endpoints]
    resolver.push(snapshot(2, servers[0].instance(), servers[1].instance()))
    await all_connected(channel, 2)
    while "retiring" in repr(channel):
        await channel._dispatcher.change()
    await Echo(channel).unary_unary(b"x")
    await asyncio.sleep(0)
    gc.collect()
    assert sum(reference() is not None for reference in references) == 2
