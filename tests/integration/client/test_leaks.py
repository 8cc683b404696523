"""Nothing is left behind: no load, no calls, no connections, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from grpc_balancer import Channel
from grpc_balancer.endpoint import Endpoint
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot

STARTS: list[Callable[[Echo], Any]] = [
    lambda echo: echo.unary_unary(b"sleep 0.01", timeout=5),
    lambda echo: echo.unary_unary(b"sleep 30", timeout=0.05),
    lambda echo: echo.unary_unary(b"sleep 30"),
    lambda echo: echo.unary_unary(b"fail ABORTED no"),
    lambda echo: echo.unary_stream(b"repeat 3"),
    lambda echo: echo.stream_unary(iter([b"a", b"b"])),
    lambda echo: echo.stream_unary(),
    lambda echo: echo.stream_stream(),
]
STEPS = st.sampled_from(["start"] * 4 + ["cancel", "abandon", "remove", "go on"])


@settings(max_examples=20, deadline=None, phases=[Phase.generate])  # to shrink would take a timeout a step
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 999)), min_size=30, max_size=150))
async def test_no_load_is_left(steps: list[tuple[str, int]]) -> None:
    """After any interleaving of starts, ends, cancellations, abandonments and removals nothing is outstanding."""
    servers = [await EchoServer(f"s{number}").start() for number in range(3)]
    resolver, seen, calls = ManualResolver(), set[Endpoint](), list[Any]()
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, drain_seconds=0.2) as channel:
        await all_connected(channel)
        for revision, (step, which) in enumerate(steps, 2):
            seen.update(channel._dispatcher.balancer.endpoints)
            match step:
                case "start":
                    calls.append(STARTS[which % len(STARTS)](Echo(channel)))
                case "cancel" if calls:
                    calls[which % len(calls)].cancel()
                case "abandon" if calls:
                    calls.pop(which % len(calls))
                case "remove":
                    listed = [server for number, server in enumerate(servers) if which >> number & 1] or servers
                    resolver.push(snapshot(revision, *(server.instance() for server in listed)))
                case _:
                    await asyncio.sleep(0.005 * (which % 2))
        for call in calls:
            call.cancel()
        calls.clear()
        gc.collect()
        # What nobody holds and no deadline ends is one kind only: a unary call of 30 s, which goes on as in grpc.aio.
        for server in servers:
            await server.stop()
        async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
        while any(reference() is not None for reference in references):
            await asyncio.sleep(0.01)
            gc.collect()


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
    async with asyncio.timeout(30):
        while sum(reference() is not None for reference in references) != 2:
            await asyncio.sleep(0.01)
            gc.collect()
