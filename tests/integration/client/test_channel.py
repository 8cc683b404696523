"""Making and closing a channel."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio
import pytest
from grpc import ChannelConnectivity, StatusCode

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_balancer.watch import LONGEST_PAUSE
from grpc_registry import Instance
from tests.integration.client.certificate import self_signed
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot
from tests.integration.registry.conftest import CALM
from tests.servers.ports import free_port


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"service": "no spaces"}, ValueError, "service 'no spaces'"),
        ({"resolver": "etcd://127.0.0.1:2379"}, TypeError, r"resolver 'etcd://127.0.0.1:2379': an object with watch"),
        ({"policy": "fastest"}, ValueError, "unknown policy 'fastest'; known: least_outstanding"),
        ({"options": ["grpc.x"]}, ValueError, "channel option 'grpc.x'"),
        ({"drain_seconds": -1}, ValueError, "drain_seconds -1"),
    ],
)
async def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A channel that cannot work is not made, and the error names the argument."""
    with pytest.raises(error, match=message):
        Channel(**{"service": "echo", "resolver": ManualResolver(), **arguments})


def test_a_channel_needs_a_loop() -> None:
    """Outside of a running event loop there is an error at once."""
    with pytest.raises(RuntimeError, match="event loop"):
        Channel("echo", ManualResolver())


async def test_the_repr_tells_the_state(channel: Channel, resolver: ManualResolver) -> None:
    """Policy, state and endpoints are in the repr."""
    assert repr(channel) == "<Channel round_robin ready <Balancer 'echo': 3 of 3 ready>>"
    await channel.close()
    assert repr(channel).startswith("<Channel round_robin shutdown")


async def test_tls(resolver: ManualResolver) -> None:
    """With credentials the endpoints are connected by TLS, and call credentials are sent; a distrusted one is named."""
    key, certificate = self_signed()
    server = await EchoServer("secure").start(grpc.ssl_server_credentials([(key, certificate)]))
    resolver.push(snapshot(1, server.instance()))
    credentials = grpc.ssl_channel_credentials(certificate)
    async with Channel("echo", resolver, credentials=credentials) as channel:
        token = grpc.access_token_call_credentials("secret")
        answer = await Echo(channel).unary_unary(b"metadata authorization", credentials=token, timeout=10)
        assert answer == b"Bearer secret"
    async with Channel("echo", resolver, credentials=grpc.ssl_channel_credentials()) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="handshake failed"):
            await Echo(channel).unary_unary(b"x", timeout=10)
    await server.stop()


async def test_compression_of_the_channel(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A default compression is used by every call."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, compression=grpc.Compression.Gzip) as channel:
        assert await Echo(channel).unary_unary(b"a" * 10_000) == b"a" * 10_000


async def test_closing_ends_every_task(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """With calls waiting, in flight and retiring, closing leaves no task, and every call is cancelled."""
    before = asyncio.all_tasks()
    resolver.push(snapshot(1, servers[0].instance()))
    channel = Channel("echo", resolver)
    echo = Echo(channel)
    calls: list[Any] = [echo.unary_unary(b"sleep 30"), echo.unary_stream(b"sleep 30")]
    await servers[0].until(lambda: servers[0].running == 2)
    resolver.push(snapshot(2, Instance("echo", "127.0.0.1:1")))
    while "retiring" not in repr(channel):
        await channel._dispatcher.change()
    calls.append(echo.unary_unary(b"waits", wait_for_ready=True))
    await channel.close()
    assert [await call.code() for call in calls] == [StatusCode.CANCELLED] * 3
    await servers[0].until(lambda: servers[0].running == 0)
    left = {task for task in asyncio.all_tasks() - before if not task.done() and "grpc_balancer" in repr(task)}
    assert left == set()
    assert resolver.readers("echo") == 0


async def test_grace_includes_calls_that_wait(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A call that waits for an endpoint when the channel closes with grace still gets one, and finishes."""
    channel = Channel("echo", resolver)
    call = Echo(channel).unary_unary(b"x")
    closing = asyncio.ensure_future(channel.close(grace=30))
    await asyncio.sleep(0)
    assert channel.get_state() is ChannelConnectivity.SHUTDOWN
    with pytest.raises(grpc.aio.UsageError):
        Echo(channel).unary_unary(b"y")
    resolver.push(snapshot(1, servers[0].instance()))
    assert await call == b"x"
    async with asyncio.timeout(30):
        await closing


async def test_grace_ends_for_calls_that_wait(resolver: ManualResolver) -> None:
    """A call that found no endpoint within the grace is cancelled."""
    channel = Channel("echo", resolver)
    call = Echo(channel).unary_unary(b"x")
    await channel.close(grace=0.1)
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_channel_at_rest_looks_seldom(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Once all is known, connections made and connections refused, the watch comes to rest, for every endpoint."""
    refused = Instance("echo", f"127.0.0.1:{free_port()}", id="refused")
    resolver.push(snapshot(1, servers[0].instance(), refused))
    async with Channel("echo", resolver) as channel:
        await all_connected(channel, 1)
        watch = channel._dispatcher._connections._watch
        async with asyncio.timeout(10):
            while watch._pause < LONGEST_PAUSE:  # noqa: ASYNC110  # nothing tells of rest
                await asyncio.sleep(0.01)
        await servers[0].stop()
        await channel.wait_for_state_change(ChannelConnectivity.READY)
        await servers[0].start()
        await all_connected(channel, 1)
        async with asyncio.timeout(10):
            while watch._pause < LONGEST_PAUSE:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_closing_what_was_never_used(resolver: ManualResolver) -> None:
    """A channel can be closed before its first call."""
    await Channel("echo", resolver).close()


FORGETFUL = (
    CALM
    + """
import asyncio, sys
from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot

async def main():
    resolver = ManualResolver()
    resolver.push(Snapshot("echo", 1, tuple(Instance("echo", address) for address in sys.argv[1:])))
    channel = Channel("echo", resolver)
    unary, stream = channel.unary_unary("/test.Echo/UnaryUnary"), channel.unary_stream("/test.Echo/UnaryStream")
    print(await unary(b"fine"))
    left = [unary(b"sleep 30"), stream(b"sleep 30"), unary(b"x", wait_for_ready=True)]
    async for _ in stream(b"repeat 10000"):
        break

asyncio.run(main(), debug=True)
"""
)


async def test_a_loop_that_ends_before_the_channel_is_closed(servers: list[EchoServer]) -> None:
    """A program that forgets to close its channel ends without a warning."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, servers[0].address, f"127.0.0.1:{free_port()}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (process.returncode, out.decode().strip(), err.decode()) == (0, "b'fine'", "")
