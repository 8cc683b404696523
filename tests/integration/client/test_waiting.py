"""Calls while no endpoint is known or connected: they wait, fail with a message, or wait for ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from grpc import ChannelConnectivity, StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Resolution, State, Unresolved
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot
from tests.servers.ports import free_port


def nobody(name: str = "gone") -> Instance:
    """An instance at a port where nobody listens."""
    return Instance("echo", f"127.0.0.1:{free_port()}", id=name)


async def test_a_call_waits_for_the_first_resolution(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Calls of all kinds, made before anything is known, go out once there is an endpoint."""
    async with Channel("echo", resolver) as channel:
        echo = Echo(channel)
        unary, stream = echo.unary_unary(b"a"), echo.unary_stream(b"repeat 2")
        counted, both = echo.stream_unary(iter([b"b", b"c"])), echo.stream_stream()
        writing = asyncio.ensure_future(both.write(b"d"))
        reading = asyncio.ensure_future(both.read())
        await asyncio.sleep(0)
        assert repr(unary) == "<UnaryUnaryCall /test.Echo/UnaryUnary: waiting for an endpoint>"
        assert "4 calls waiting" in repr(channel)
        assert channel.get_state() is ChannelConnectivity.CONNECTING
        resolver.push(snapshot(1, servers[0].instance()))
        assert await unary == b"a"
        assert [response async for response in stream] == [b"repeat 2"] * 2
        assert await counted == b"b,c"
        await writing
        assert await reading == b"d"
        both.cancel()


async def test_the_deadline_covers_the_wait(resolver: ManualResolver) -> None:
    """A call that found no endpoint by its deadline says so, and what was known."""
    async with Channel("echo", resolver) as channel:
        call = Echo(channel).unary_unary(b"x", timeout=0.1)
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
        assert "no endpoint of 'echo': the registry has not answered yet" in str(caught.value.details())
        assert call.time_remaining() == 0
        assert "waiting" not in repr(channel)


async def test_the_wait_is_part_of_the_time(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """What a call has waited for its endpoint is not given to it again there."""
    async with Channel("echo", resolver) as channel:
        loop = asyncio.get_running_loop()
        call = Echo(channel).unary_unary(b"left", timeout=9)
        loop.call_later(0.5, resolver.push, snapshot(1, servers[0].instance()))
        assert float(await call) < 8.7
        assert servers[0].calls["unary_unary"] == 1


async def test_cancelled_while_waiting(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A call that is cancelled before it has an endpoint is never sent."""
    async with Channel("echo", resolver) as channel:
        echo = Echo(channel)
        call = echo.unary_unary(b"x")
        stream = echo.unary_stream(b"x")
        seen: list[object] = []
        call.add_done_callback(seen.append)
        assert call.cancel()
        assert call.cancelled()
        assert seen == [call]
        assert not call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await call.code() is StatusCode.CANCELLED
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert stream.cancelled()
        resolver.push(snapshot(1, servers[0].instance()))
        await channel.channel_ready()
        assert await echo.unary_unary(b"x") == b"x"
        assert servers[0].calls.total() == 1


async def test_a_cancelled_task_cancels_its_waiting_call(resolver: ManualResolver) -> None:
    """Two tasks wait for one call: when one is cancelled, so is the call, as in grpc.aio."""
    async with Channel("echo", resolver) as channel:
        call = Echo(channel).unary_unary(b"x")

        async def wait() -> bytes:
            return await call

        one, other = asyncio.create_task(wait()), asyncio.create_task(wait())
        status = asyncio.create_task(call.code())
        await asyncio.sleep(0)
        one.cancel()
        outcomes = await asyncio.gather(one, other, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, asyncio.CancelledError]
        assert await status is StatusCode.CANCELLED


async def test_asking_for_the_status_does_not_cancel(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Who gives up waiting for a call's status or metadata leaves the call alone."""
    async with Channel("echo", resolver) as channel:
        call = Echo(channel).unary_unary(b"x")
        asking = [asyncio.create_task(call.code()), asyncio.create_task(call.initial_metadata())]
        await asyncio.sleep(0)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        resolver.push(snapshot(1, servers[0].instance()))
        assert await call == b"x"


async def test_an_empty_service_fails_at_once(resolver: ManualResolver) -> None:
    """A service without instances is UNAVAILABLE, by name and revision."""
    resolver.push(snapshot(41))
    async with Channel("echo", resolver) as channel:
        call = Echo(channel).unary_unary(b"x")
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.code() is StatusCode.UNAVAILABLE
        expected = "no endpoint of 'echo': no instance is registered; registry snapshot at revision 41"
        assert caught.value.details() == expected
        assert await call.details() == expected
        assert await call.debug_error_string() == "grpc_balancer: no endpoint took the call"  # type: ignore[attr-defined]
        assert not await call.trailing_metadata()
        assert channel.get_state() is ChannelConnectivity.TRANSIENT_FAILURE


async def test_a_registry_that_does_not_answer_fails_at_once(resolver: ManualResolver) -> None:
    """With nothing known and the registry away, calls fail with the registry's reason."""
    resolver.push(Unresolved("echo", "etcd://127.0.0.1:2379: connection refused"))
    async with Channel("echo", resolver) as channel:
        with pytest.raises(AioRpcError, match=r"127\.0\.0\.1:2379: connection refused"):
            await Echo(channel).unary_unary(b"x")


async def test_refused_connections_are_named(resolver: ManualResolver) -> None:
    """If nothing can be connected, the error says which address failed and why, and what else there is."""
    gone = nobody()
    draining = Instance("echo", "127.0.0.1:9", id="d", state=State.DRAINING)
    resolver.push(snapshot(7, gone, draining, stale=True))
    async with Channel("echo", resolver, clock=lambda: 1000.0) as channel:
        with pytest.raises(AioRpcError) as caught:
            await Echo(channel).unary_unary(b"x")
        assert caught.value.details() == (
            f"no endpoint of 'echo': 0 of 1 instances are connected ({gone.address}: Connection refused), "
            "1 draining; registry snapshot at revision 7, stale for 0 s"
        )


async def test_wait_for_ready_waits(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """With `wait_for_ready` a call waits through an empty registry and refused connections, and then is made."""
    resolver.push(snapshot(1))
    async with Channel("echo", resolver) as channel:
        echo = Echo(channel)
        call = echo.unary_unary(b"name", wait_for_ready=True, timeout=20)
        stream = echo.unary_stream(b"name", wait_for_ready=True)
        await asyncio.sleep(0)
        resolver.push(snapshot(2, nobody()))
        while channel.get_state() is not ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        assert not call.done()
        resolver.push(snapshot(3, servers[1].instance()))
        assert await call == b"s1"
        assert await stream.read() == b"s1"


async def test_wait_for_ready_has_its_deadline(resolver: ManualResolver) -> None:
    """A call that waits for ready in vain ends at its deadline and says what it waited for."""
    gone = nobody()
    resolver.push(snapshot(1, gone))
    async with Channel("echo", resolver) as channel:
        async with asyncio.timeout(30):
            while (state := channel.get_state()) is not ChannelConnectivity.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)
        with pytest.raises(AioRpcError, match=f"{gone.address}: Connection refused") as caught:
            await Echo(channel).unary_unary(b"x", wait_for_ready=True, timeout=0.5)
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


async def test_an_endpoint_that_comes_up_is_connected(resolver: ManualResolver) -> None:
    """An instance that was registered before it listened is used within seconds of listening."""
    server = EchoServer("late", free_port())
    resolver.push(snapshot(1, server.instance()))
    async with Channel("echo", resolver) as channel:
        with pytest.raises(AioRpcError):
            await Echo(channel).unary_unary(b"x")
        await server.start()
        async with asyncio.timeout(15):
            assert await Echo(channel).unary_unary(b"name", wait_for_ready=True) == b"late"
    await server.stop()


async def test_the_first_call_starts_everything(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Without `async with`, nothing is read or dialled before the first call."""
    resolver.push(snapshot(1, servers[0].instance()))
    channel = Channel("echo", resolver)
    await asyncio.sleep(0)
    assert resolver.readers("echo") == 0
    assert channel.get_state() is ChannelConnectivity.IDLE
    assert await Echo(channel).unary_unary(b"x") == b"x"
    assert resolver.readers("echo") == 1
    await channel.close()
    assert resolver.readers("echo") == 0


async def test_a_call_made_in_a_plain_function(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A stub is called synchronously, also from a callback of the loop, and awaited elsewhere."""
    async with Channel("echo", resolver) as channel:
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        loop.call_soon(lambda: made.set_result(Echo(channel).unary_unary(b"x")))
        loop.call_soon(resolver.push, snapshot(1, servers[0].instance()))
        assert await (await made) == b"x"


class Failing:
    """A resolver that fails on its first reading and gives a snapshot on the next."""

    def __init__(self, resolution: Resolution) -> None:
        self.resolution = resolution
        self.readings = 0

    async def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        self.readings += 1
        if self.readings == 1:
            raise ConnectionError("out of order")
        yield self.resolution


async def test_a_resolver_that_fails_is_read_again(servers: list[EchoServer], caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is logged and told to calls, and it is read again after a second; its end keeps what it said."""
    resolver = Failing(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver) as channel:
        with pytest.raises(AioRpcError, match="out of order"):
            await Echo(channel).unary_unary(b"x")
        assert "the resolver of 'echo' failed" in caplog.text
        async with asyncio.timeout(30):
            assert await Echo(channel).unary_unary(b"x", wait_for_ready=True) == b"x"
        await all_connected(channel, 1)
        assert await Echo(channel).unary_unary(b"x") == b"x"
