"""Servers that die, stop and freeze. What no server can have seen is tried elsewhere; what one may have seen is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import ChannelConnectivity, StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import SERVER_FAST_KEEPALIVE, Channel
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoProcess, EchoServer, kill_and_let_grpc_know, snapshot
from tests.integration.client.load import status_lost, under_load


async def requests(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_calls_move_on_from_a_server_they_cannot_reach(
    resolver: ManualResolver, processes: list[EchoProcess]
) -> None:
    """Picked for servers that die before they are sent, calls of any kind go to another, and nobody notices."""
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver, policy="round_robin") as channel:
        await all_connected(channel)
        echo = Echo(channel)
        unary = [echo.unary_unary(b"name") for _ in range(3)]
        iterated = [echo.unary_stream(b"name") for _ in range(3)]
        read = [echo.unary_stream(b"name") for _ in range(3)]
        sent = [echo.stream_unary(requests(b"name", b"2", b"3")) for _ in range(3)]
        both = [echo.stream_stream(requests(b"name", b"2", b"3")) for _ in range(3)]
        written = [echo.stream_stream() for _ in range(3)]
        called_back: list[Any] = []
        unheard = [echo.unary_unary(b"name") for _ in range(3)]
        for call in unheard:
            call.add_done_callback(called_back.append)
        asked = [echo.unary_unary(b"metadata x") for _ in range(3)]
        kill_and_let_grpc_know(channel, processes[0], processes[1])
        assert [await call for call in unary] == [b"p2"] * 3
        assert [[name async for name in call] for call in iterated] == [[b"p2"]] * 3
        assert [await call.read() for call in read] == [b"p2"] * 3
        assert [await call for call in sent] == [b"p2,2,3"] * 3
        assert [[name async for name in call] for call in both] == [[b"p2", b"2", b"3"]] * 3
        for stream in written:
            await stream.write(b"name")
            assert await stream.read() == b"p2"
            await stream.done_writing()
            assert await stream.code() is StatusCode.OK
        for call in asked:
            await call.wait_for_connection()
            assert dict(await call.initial_metadata())["initial"] == "yes"
            assert await call.code() is StatusCode.OK
        assert sorted(map(id, called_back)) == sorted(map(id, unheard))
        assert [await call.code() for call in unheard] == [StatusCode.OK] * 3
        assert [len(call.tried) for call in unary].count(0) == 1  # type: ignore[attr-defined]


async def test_each_endpoint_is_tried_once(resolver: ManualResolver, processes: list[EchoProcess]) -> None:
    """If no server can be reached the call fails, and says which addresses refused."""
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver) as channel:
        await all_connected(channel)
        call = Echo(channel).unary_unary(b"x")
        kill_and_let_grpc_know(channel, *processes)
        with pytest.raises(AioRpcError, match="no endpoint of 'echo': 0 of 3 instances are connected") as caught:
            await call
        assert caught.value.code() is StatusCode.UNAVAILABLE
        assert str(caught.value.details()).count("Connection refused") == 3
        with pytest.raises(AioRpcError, match="no endpoint of 'echo'"):
            await call


async def test_a_call_that_may_have_been_seen_is_not_repeated(
    resolver: ManualResolver, processes: list[EchoProcess]
) -> None:
    """A call whose server dies while it has the call fails, though there are others."""
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver, policy="pick_first") as channel:
        await all_connected(channel)
        echo = Echo(channel)
        name = await echo.unary_unary(b"name")
        call = echo.unary_unary(b"sleep 30")
        await echo.unary_unary(b"x")  # behind the other one, on the same connection
        processes[int(name[1:])].kill()
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.code() is StatusCode.UNAVAILABLE
        # A reset, if the server had not read all yet: the client answers pings, and sends its own. It may be doing so.
        lost = r"Socket closed|(recvmsg:|sendmsg: )(Connection reset by peer \(104\)|Broken pipe \(32\))"
        removed = rf"Stream removed \(({lost}|Delayed close due to in-progress write \(({lost})\))\)"
        assert re.fullmatch(removed, str(caught.value.details()))
        await all_connected(channel, 2)  # the call may hear of it first; until then others are sent there, and fail
        assert await echo.unary_unary(b"x") == b"x"


async def test_waiting_for_ready_outlasts_all_servers(channel: Channel, servers: list[EchoServer]) -> None:
    """A call that waits for ready tries what there is, then waits until a server is back."""
    for server in servers:
        await server.stop()
    call = Echo(channel).unary_unary(b"name", wait_for_ready=True, timeout=20)
    while channel.get_state() is not ChannelConnectivity.TRANSIENT_FAILURE:
        await channel.wait_for_state_change(channel.get_state())
    assert not call.done()
    await servers[1].start()
    assert await call == b"s1"


async def test_a_stream_that_has_begun_stays(resolver: ManualResolver, processes: list[EchoProcess]) -> None:
    """The reader of a stream whose server is killed gets what came, then the error, and nothing from another server."""
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver, policy="pick_first") as channel:
        await all_connected(channel)
        stream = Echo(channel).stream_stream()
        await stream.write(b"name")
        name = await stream.read()
        assert isinstance(name, bytes)
        processes[int(name[1:])].kill()
        with pytest.raises(AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_a_killed_server_costs_only_what_was_in_flight(
    resolver: ManualResolver, processes: list[EchoProcess]
) -> None:
    """Under load, `kill -9` fails only calls that were sent there until the loss was noticed, milliseconds later.

    Once it is restarted it gets calls again.
    """
    callers = 8
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    # Without ejection: where five of them were in flight there, the server would be left alone for half a minute.
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=None) as channel:
        await all_connected(channel)
        async with under_load(channel, callers) as load:
            await load.more(100)
            processes[0].kill()
            await load.until(lambda: "2 of 3 ready" in repr(channel))
            await load.more(100)
            in_flight = len(load.errors)
            await load.more(300)
            assert len(load.errors) == in_flight <= 2 * callers
            assert {error.code() for error in load.errors if not status_lost(error)} <= {StatusCode.UNAVAILABLE}
            load.answers.clear()
            await asyncio.to_thread(processes[0].start)
            await load.until(lambda: load.answers["p0"] > 20)
            assert len(load.errors) == in_flight


async def test_a_frozen_server_is_left(tmp_path: Path, resolver: ManualResolver) -> None:
    """With keepalive, a server that is stopped by SIGSTOP loses its connection, and gets no calls until it goes on."""
    made = [EchoProcess(tmp_path, f"p{number}") for number in range(2)]
    fast = [
        ("grpc.keepalive_time_ms", 400),
        ("grpc.keepalive_timeout_ms", 4_000),  # longer than the other one may stand still on a busy machine
        ("grpc.http2.ping_timeout_ms", 4_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    try:
        for process in made:
            process.server_options = [("grpc.http2.min_ping_interval_without_data_ms", 100), SERVER_FAST_KEEPALIVE[1]]
            process.start()
        resolver.push(snapshot(1, *(process.instance() for process in made)))
        async with Channel("echo", resolver, policy="round_robin", options=fast) as channel:
            await all_connected(channel, 2)
            made[0].pause()
            async with asyncio.timeout(30):
                await all_connected(channel, 1)
            echo = Echo(channel)
            assert {await echo.unary_unary(b"name", timeout=20) for _ in range(10)} == {b"p1"}
            made[0].resume()
            async with asyncio.timeout(30):
                await all_connected(channel, 2)
            assert {await echo.unary_unary(b"name", timeout=20) for _ in range(10)} == {b"p0", b"p1"}
    finally:
        for process in made:
            process.kill()


async def test_each_endpoint_has_its_own_connection(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Two channels to one server, and two instances at one address, share no connection."""
    twin = servers[0].instance()
    resolver.push(snapshot(1, twin, type(twin)("echo", twin.address, id="twin")))
    async with Channel("echo", resolver, policy="round_robin") as one, Channel("echo", resolver) as other:
        peers = set()
        for channel in (one, other):
            await all_connected(channel, 2)
            peers |= {await Echo(channel).unary_unary(b"peer") for _ in range(40)}
        assert len(peers) == 4
