"""The policies over real servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import CallInfo, Candidate, Channel, register_policy
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot


async def test_load_is_given_back_however_a_call_ends(channel: Channel) -> None:
    """After answers, errors, deadlines, cancellations and abandoned streams nothing is outstanding."""
    echo = Echo(channel)
    await asyncio.gather(
        *(echo.unary_unary(b"x") for _ in range(3)),
        *(echo.unary_unary(b"fail INTERNAL no") for _ in range(3)),
        *(echo.unary_unary(b"sleep 30", timeout=0.05) for _ in range(3)),
        return_exceptions=True,
    )
    cancelled = [echo.unary_unary(b"sleep 30"), echo.unary_stream(b"sleep 30"), echo.stream_unary()]
    for call in cancelled:
        call.cancel()
    with pytest.raises(TypeError):
        await echo.unary_unary(b"x", metadata=(("key", 1),))  # type: ignore[arg-type]
    async for _ in echo.unary_stream(b"repeat 1000000"):
        break
    echo.stream_stream()
    endpoints = channel._dispatcher.balancer.endpoints
    async with asyncio.timeout(30):
        await asyncio.gather(*(endpoint.load.wait_idle() for endpoint in endpoints))


async def test_an_open_stream_is_load(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A call counts from its start to its end: new ones go where no stream is open."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        names = set()
        streams = []
        for _ in range(3):
            stream = echo.stream_stream()
            streams.append(stream)
            await stream.write(b"name")
            names.add(await stream.read())
        assert names == {b"s0", b"s1", b"s2"}
        assert repr(channel._dispatcher.balancer.endpoints[0]).endswith("ready, 1 outstanding, weight 100>")


async def test_the_owner_of_a_key_answers_its_calls(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Calls with a key go to whom the channel tells to be its owner, of the instances that it tells to choose from."""
    async with Channel("echo", resolver, policy={"ring_hash": {"requestHashHeader": "x-user"}}) as channel:
        assert channel.owner([("x-user", "0")]) is None
        resolver.push(snapshot(1, *(server.instance() for server in servers)))
        await all_connected(channel)
        names = {server.address: server.name.encode() for server in servers}
        assert {one.address for one in channel.instances} == names.keys()
        for number in range(20):
            metadata = [("x-user", str(number))]
            owner = channel.owner(metadata)
            assert owner is not None
            assert await Echo(channel).unary_unary(b"name", metadata=metadata) == names[owner.address]


async def test_pick_first_has_a_spare(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """All calls go to one endpoint, and to another once that one is gone."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, policy="pick_first") as channel:
        await all_connected(channel)
        echo = Echo(channel)
        first = {await echo.unary_unary(b"name") for _ in range(10)}
        assert len(first) == 1
        await servers[int(first.pop()[1:])].stop()
        await all_connected(channel, 2)  # a call that may have been seen by the server that stops is not repeated
        second = {await echo.unary_unary(b"name") for _ in range(10)}
        assert len(second) == 1


async def test_a_policy_of_ones_own(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A registered policy sees the call's method and metadata, and picks by them."""

    class ByHeader:
        def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
            self._by_id = {candidate.instance.id: candidate for candidate in candidates}

        def pick(self, call: CallInfo) -> Candidate:
            assert call.method == "/test.Echo/UnaryUnary"
            wanted = dict(call.metadata or ())["want"]
            return self._by_id[str(wanted)]

    register_policy("test_by_header", ByHeader)
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, policy="test_by_header") as channel:
        await all_connected(channel)
        echo = Echo(channel)
        for name in ("s2", "s0", "s1"):
            assert await echo.unary_unary(b"name", metadata=(("want", name),)) == name.encode()
        with pytest.raises(AioRpcError, match="the policy failed: KeyError"):
            await echo.unary_unary(b"name", metadata=(("want", "nobody"),))


async def test_a_policy_that_fails_fails_the_call(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """An exception of a policy fails the call for which it was to pick, waiting or not; nothing else stops working."""

    class Broken:
        def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
            self._first = candidates[0]

        def pick(self, call: CallInfo) -> Candidate:
            if dict(call.metadata or ()).get("please") == "fail":
                raise LookupError("no luck")
            return self._first

    register_policy("test_broken", Broken)
    async with Channel("echo", resolver, policy="test_broken") as channel:
        echo = Echo(channel)
        waited = echo.unary_unary(b"x", metadata=(("please", "fail"),))
        fine = echo.unary_unary(b"x")
        resolver.push(snapshot(1, servers[0].instance()))
        with pytest.raises(AioRpcError, match="no luck") as caught:
            await waited
        assert caught.value.code() is StatusCode.INTERNAL
        assert await fine == b"x"
        with pytest.raises(AioRpcError, match="no luck"):
            await echo.unary_unary(b"x", metadata=(("please", "fail"),))


async def test_a_policy_that_clings_to_the_past(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A policy that picks an endpoint that is gone fails its calls, and blocks nobody."""
    kept: list[Candidate] = []

    class Clinging:
        def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
            kept.extend(candidates)

        def pick(self, call: CallInfo) -> Candidate:
            return kept[0]

    register_policy("test_clinging", Clinging)
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, policy="test_clinging") as channel:
        echo = Echo(channel)
        assert await echo.unary_unary(b"name") == b"s0"
        resolver.push(snapshot(2, servers[1].instance()))
        await channel._dispatcher.change()
        async with asyncio.timeout(30):
            while await echo.unary_unary(b"x").code() is StatusCode.OK:
                pass
