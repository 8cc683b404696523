"""Endpoints come, go, drain and change their weights under a channel that is in use."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import State
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot
from tests.integration.client.load import status_lost, under_load


async def test_an_endpoint_comes_and_goes_without_a_failed_call(
    channel: Channel, resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """Under load, a new endpoint gets calls, a removed one gets no more, and no call fails."""
    fourth = await EchoServer("s3").start()
    async with under_load(channel) as load:
        await load.more(50)
        resolver.push(snapshot(2, *(server.instance() for server in [*servers, fourth])))
        await load.until(lambda: load.answers["s3"] > 20)
        resolver.push(snapshot(3, *(server.instance() for server in [*servers[1:], fourth])))
        await load.until(lambda: "3 of 3 ready>" in repr(channel) and "retiring" not in repr(channel))
        before = load.answers["s0"]
        await load.more(100)
        assert load.answers["s0"] <= before + 8  # what was in flight
    await fourth.stop()
    assert load.errors == []


async def test_every_instance_is_replaced_without_a_failed_call(
    channel: Channel, resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """A rolling restart, draining each instance before it stops, fails no call."""
    live = list(servers)
    async with under_load(channel) as load:
        for number in range(3):
            new = await EchoServer(f"n{number}").start()
            leaving = live.pop(0)
            live.append(new)
            listed = [server.instance() for server in live]
            resolver.push(snapshot(2 + 2 * number, *listed, leaving.instance(state=State.DRAINING)))
            name = new.name
            await load.until(lambda name=name: load.answers[name] > 10)  # type: ignore[misc]
            resolver.push(snapshot(3 + 2 * number, *listed))
            await load.until(lambda: "retiring" not in repr(channel))
            await leaving.stop(grace=5)
            await load.more(30)
    for server in live:
        await server.stop()
    assert load.errors == []


async def test_a_draining_endpoint_finishes_its_streams(
    channel: Channel, resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """A stream goes on while its endpoint drains, and after it has left the registry; new calls go elsewhere."""
    echo = Echo(channel)
    streams = [echo.stream_stream() for _ in range(3)]
    by_name = {}
    for stream in streams:
        await stream.write(b"name")
        by_name[await stream.read()] = stream
    stream = by_name[b"s0"]
    rest = [server.instance() for server in servers[1:]]
    resolver.push(snapshot(2, servers[0].instance(state=State.DRAINING), *rest))
    await all_connected(channel, 2)
    assert b"s0" not in {await echo.unary_unary(b"name") for _ in range(12)}
    await stream.write(b"still here")
    assert await stream.read() == b"still here"
    resolver.push(snapshot(3, *rest))
    while "1 retiring" not in repr(channel):
        await channel._dispatcher.change()
    await stream.write(b"and here")
    assert await stream.read() == b"and here"
    await stream.done_writing()
    assert await stream.code() is StatusCode.OK
    for other in streams:
        other.cancel()
    async with asyncio.timeout(30):
        while "retiring" in repr(channel):
            await channel._dispatcher.change()


async def test_calls_outlast_a_removal_only_so_long(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """After `drain_seconds` a call at a removed endpoint ends, with UNAVAILABLE and the reason, not as cancelled."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, drain_seconds=0.2) as channel:
        echo = Echo(channel)
        unary = echo.unary_unary(b"sleep 30")
        stream = echo.unary_stream(b"sleep 30")
        await servers[0].until(lambda: servers[0].running == 2)
        resolver.push(snapshot(2, servers[1].instance()))
        with pytest.raises(AioRpcError, match="left the registry"):
            await unary
        with pytest.raises(AioRpcError, match="left the registry") as caught:
            await stream.read()
        assert caught.value.code() is StatusCode.UNAVAILABLE
        assert await unary.code() is StatusCode.UNAVAILABLE
        assert not unary.cancelled()
        assert await echo.unary_unary(b"name") == b"s1"


async def test_a_wiped_registry_takes_nobody_away(
    channel: Channel, resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """An empty list after a break leaves connected endpoints in use; those that return one by one stay themselves."""
    async with under_load(channel) as load:
        await load.more(30)
        resolver.push(snapshot(9, *(server.instance() for server in servers), stale=True))
        resolver.push(snapshot(1, relisted=True))
        await load.until(lambda: "3 doubted" in repr(channel))
        resolver.push(snapshot(2, servers[2].instance()))
        await load.until(lambda: "2 doubted" in repr(channel))
        load.answers.clear()
        await load.until(lambda: set(load.answers) == {"s0", "s1", "s2"})
        assert load.errors == []
        await servers[0].stop(grace=1)
        await load.until(lambda: "1 doubted" in repr(channel))
    # gRPC's core cancels, or ends with the server, a call that reaches that as it stops: one of each caller, if any.
    cut_off = [error for error in load.errors if not status_lost(error)]
    assert len(cut_off) <= 8, cut_off
    assert {error.code() for error in cut_off} <= {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}, cut_off


async def test_weights_change_without_a_new_connection(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A change of weight takes effect on the next calls, over the same connections."""
    resolver.push(snapshot(1, servers[0].instance(), servers[1].instance()))
    async with Channel("echo", resolver, policy="weighted_round_robin") as channel:
        await all_connected(channel, 2)
        endpoints = channel._dispatcher.balancer.endpoints
        resolver.push(snapshot(2, servers[0].instance(weight=300), servers[1].instance()))
        echo = Echo(channel)
        await asyncio.sleep(0)
        while channel._dispatcher.balancer.endpoints[0].instance.weight != 300:
            await channel._dispatcher.change()
        names = [await echo.unary_unary(b"name") for _ in range(40)]
        assert names.count(b"s0") == 30
        assert channel._dispatcher.balancer.endpoints == endpoints
