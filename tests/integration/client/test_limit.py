"""The limit on the calls in progress at each endpoint."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import Channel, Explanation, OutstandingLimit
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot


async def running(servers: list[EchoServer], number: int) -> None:
    async with asyncio.timeout(10):
        while sum(server.running for server in servers) != number:  # noqa: ASYNC110 - three servers
            await asyncio.sleep(0.005)


async def test_a_call_too_many_fails_at_once(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """With no queue, a call beyond the limit of every endpoint is UNAVAILABLE, and says why; others go on."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, limit=OutstandingLimit(2)) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        calls = [echo.unary_unary(b"wait") for _ in range(6)]
        with pytest.raises(AioRpcError, match="'echo' is at its limit: 2 calls in progress at each endpoint") as caught:
            await echo.unary_unary(b"name")
        assert caught.value.code() is StatusCode.UNAVAILABLE
        assert all("at its limit" in row.left_out for row in channel.explain().instances)
        await running(servers, 6)
        for server in servers:
            server.gate.set()
        await asyncio.gather(*calls)
        assert max(server.most_running for server in servers) == 2
        assert await echo.unary_unary(b"name")


async def test_calls_wait_for_their_turn_in_the_order_in_which_they_came(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """With a queue, calls beyond the limit wait and start in order; beyond the queue they fail."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, limit=OutstandingLimit(1, queue=3)) as channel:
        await all_connected(channel, 1)
        echo, ended = Echo(channel), list[int]()
        calls = [echo.unary_unary(b"sleep 0.1") for _ in range(4)]
        for number, call in enumerate(calls):
            call.add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
        with pytest.raises(AioRpcError, match="3 waiting"):
            await echo.unary_unary(b"name")
        await asyncio.gather(*calls)
        assert ended == [0, 1, 2, 3]
        assert servers[0].most_running == 1


async def test_a_call_waits_no_longer_than_its_deadline(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A call whose turn does not come ends with DEADLINE_EXCEEDED, and frees its place in the queue."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, limit=OutstandingLimit(1, queue=1)) as channel:
        await all_connected(channel, 1)
        echo = Echo(channel)
        long = echo.unary_unary(b"wait")
        with pytest.raises(AioRpcError, match="at its limit") as caught:
            await echo.unary_unary(b"name", timeout=0.1)
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
        cancelled = echo.unary_unary(b"name")
        cancelled.cancel()
        waiting = echo.unary_unary(b"name", timeout=30)
        servers[0].gate.set()
        assert await waiting == b"s0"
        assert await long


async def test_an_endpoint_at_its_limit_sends_calls_elsewhere(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """A policy that would send a call to a full endpoint has to send it to another one."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, policy="pick_first", limit=OutstandingLimit(2)) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        calls = [echo.unary_unary(b"wait") for _ in range(5)]
        await running(servers, 5)
        assert sorted(server.running for server in servers) == [1, 2, 2]
        for server in servers:
            server.gate.set()
        await asyncio.gather(*calls)


async def test_each_pick_can_be_looked_at(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """`on_pick` is given who was picked, who else might have been, and with what scores; its failure harms no call."""
    seen: list[Explanation] = []

    def look(explanation: Explanation) -> None:
        seen.append(explanation)
        if len(seen) == 2:
            raise RuntimeError("a bug of the onlooker")

    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, on_pick=look) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        names = [await echo.unary_unary(b"name") for _ in range(3)]
        assert [one.picked.id.encode() for one in seen if one.picked] == names
        assert len(seen[0].candidates) == 3
        assert all(row.score is not None for row in seen[0].candidates)
        text = str(channel.explain("/test.Echo/UnaryUnary"))
        assert text.startswith("least_outstanding for echo /test.Echo/UnaryUnary: 3 candidates")
        assert servers[0].address in text
