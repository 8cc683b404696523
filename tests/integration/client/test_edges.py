"""Where two things happen at once, or one happens that should not: no call waits for ever, and nothing is left over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc import ChannelConnectivity, StatusCode

from grpc_balancer import Candidate, Channel, OutstandingLimit, register_policy
from grpc_balancer.endpoint import Endpoint, connector
from grpc_balancer.options import Options, with_defaults
from grpc_balancer.pickers.contract import CallInfo
from grpc_balancer.secrets import Secrets
from grpc_balancer.testing import ManualResolver
from grpc_registry import State
from grpc_registry.service_config import OutlierDetection
from grpc_registry.tls import TlsFiles
from tests.authority import Authority
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot
from tests.integration.client.scripted import Fail, ScriptedServer

RETRYING = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def endpoint_of(channel: Channel, name: str) -> Endpoint:
    return next(one for one in channel._dispatcher.balancer.endpoints if one.instance.id == name)


# Closing


async def test_a_call_that_fails_while_the_channel_closes_does_not_wait_for_ever(
    resolver: ManualResolver, servers: list[EchoServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that ends between the last look at those who wait and the end of its connection ends its call."""
    resolver.push(snapshot(1, servers[0].instance()))
    channel = Channel("echo", resolver, service_config=RETRYING)
    await channel.channel_ready()
    dispatcher = channel._dispatcher
    call = Echo(channel).unary_unary(b"sleep 60")
    await servers[0].until(lambda: servers[0].running == 1)
    close = dispatcher._connections.close

    async def slowly() -> None:
        await servers[0].stop()
        while not dispatcher._backing_off and not dispatcher._waiting and not call.done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await close()

    monkeypatch.setattr(dispatcher._connections, "close", slowly)
    await channel.close()
    async with asyncio.timeout(30):
        assert await call.code() in (StatusCode.CANCELLED, StatusCode.UNAVAILABLE)
    assert dispatcher.waiting == 0


async def test_a_close_that_is_cancelled_closes_all_the_same(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """Who does not wait for the whole of the grace period leaves no call and no connection behind."""
    resolver.push(snapshot(1, servers[0].instance()))
    channel = Channel("echo", resolver)
    await channel.channel_ready()
    endpoint = endpoint_of(channel, "s0")
    call = Echo(channel).unary_unary(b"sleep 60")
    await servers[0].until(lambda: servers[0].running == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.close(grace=30), 0.05)
    assert call.cancelled()
    assert endpoint.line.channel.get_state() is ChannelConnectivity.SHUTDOWN


# Policies of one's own


class Unable:
    """A policy that cannot be made, for some candidates."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        if any(candidate.instance.id == "s1" for candidate in candidates):
            raise LookupError("not with s1")
        self.candidates = candidates

    def pick(self, call: CallInfo) -> Candidate:
        return self.candidates[0]

    def scores(self, call: CallInfo) -> Sequence[float]:
        raise LookupError("no score")


register_policy("test_unable", Unable)


async def test_a_policy_that_cannot_be_made_fails_every_call(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """While a policy refuses the candidates, all calls fail, rather than go to those that were before."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, policy="test_unable") as channel:
        await all_connected(channel, 1)
        echo = Echo(channel)
        assert await echo.unary_unary(b"name") == b"s0"
        resolver.push(snapshot(2, servers[0].instance(), servers[1].instance()))
        await all_connected(channel, 2)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match=r"the policy failed: .*not with s1"):
                await echo.unary_unary(b"name", timeout=5)
        resolver.push(snapshot(3, servers[0].instance(), servers[1].instance(state=State.DRAINING)))
        await all_connected(channel, 1)
        assert await echo.unary_unary(b"name", timeout=5) == b"s0"


async def test_a_policy_without_scores_fails_no_call_that_is_looked_at(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """`on_pick` is not told if the policy cannot say why, and the call goes on, whether it waited or not."""
    seen: list[Any] = []
    async with Channel("echo", resolver, policy="test_unable", on_pick=seen.append) as channel:
        waited = Echo(channel).unary_unary(b"name", timeout=5)
        resolver.push(snapshot(1, servers[0].instance()))
        assert await waited == b"s0"
        assert await Echo(channel).unary_unary(b"name", timeout=5) == b"s0"
        assert seen == []


# Limits


@pytest.fixture
async def scripted() -> AsyncIterator[list[ScriptedServer]]:
    """Three servers s0, s1, s2 that fail as they are told."""
    made = [await ScriptedServer(f"s{number}").start() for number in range(3)]
    yield made
    for server in made:
        await server.stop()


async def test_a_limit_does_not_send_calls_to_who_is_ejected(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """While all others are full, calls wait for them, and no more than may; the ejected endpoint gets none."""
    bad, *good = scripted
    bad.fails(times=1_000)
    resolver.push(snapshot(1, *(server.instance() for server in scripted)))
    limit, detection = OutstandingLimit(2, queue=4), OutlierDetection(base_ejection_time=60)
    async with Channel("echo", resolver, policy="round_robin", limit=limit, outlier_detection=detection) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        while not endpoint_of(channel, "s0").record.ejected:
            await echo.unary_unary(b"x").code()
        seen = len(bad.seen)
        for server in good:
            server.fails(Fail(StatusCode.OK, after=0.2), times=2)
        calls = [echo.unary_unary(b"x") for _ in range(8)]
        beyond = echo.unary_unary(b"x")
        assert await beyond.code() is StatusCode.UNAVAILABLE
        assert "4 waiting" in await beyond.details()
        assert set(await asyncio.gather(*calls)) == {b"x s1", b"x s2"}
        assert len(bad.seen) == seen


async def test_a_waiting_call_with_few_choices_does_not_hold_up_those_behind_it(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """A call that has tried the endpoint with room waits for the full one; those after it need not."""
    quick, slow = servers[:2]
    quick.delay, slow.delay = 0.3, 60.0
    resolver.push(snapshot(1, quick.instance(), slow.instance()))
    async with Channel("echo", resolver, policy="round_robin", limit=OutstandingLimit(1, queue=5)) as channel:
        await all_connected(channel, 2)
        echo = Echo(channel)
        first, second = echo.unary_unary(b"name"), echo.unary_unary(b"name")
        choosy, other = echo.unary_unary(b"name"), echo.unary_unary(b"name")
        choosy.tried = frozenset([endpoint_of(channel, quick.name)])  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            assert await other == b"s0"
        for call in (first, second, choosy):
            call.cancel()


# Machines


async def test_what_an_application_says_of_timeouts_is_not_said_of_its_machine(
    resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """An endpoint whose database timed out makes none of its neighbours suspect."""
    hosts = dict(zip(servers, ("here", "here", "elsewhere"), strict=True))
    resolver.push(snapshot(1, *(replace(server.instance(), host=host) for server, host in hosts.items())))
    async with Channel("echo", resolver, policy="round_robin") as channel:
        await all_connected(channel)
        candidates: list[int] = []
        for _ in servers:
            call = Echo(channel).unary_unary(b"fail INTERNAL Operation timed out")
            call.add_done_callback(lambda _: candidates.append(len(channel.explain().candidates)))
            assert await call.code() is StatusCode.INTERNAL
        assert candidates == [3, 3, 3]


# Certificates


@pytest.mark.parametrize("way", ["closed", "cancelled"])
async def test_an_endpoint_that_is_closed_while_it_renews_leaves_no_connection(tmp_path: Path, way: str) -> None:
    """Whether it is closed, or its renewal is cancelled first: the new connection is closed like the old one."""
    authority, made = Authority(tmp_path, "ca"), list[grpc.aio.Channel]()
    certificate, key = authority.issue("server", address="127.0.0.1")
    server = await EchoServer().start(TlsFiles(authority.ca, certificate, key).server_credentials())
    files = TlsFiles(authority.ca, *authority.issue("client"))
    secrets = Secrets(files)

    def dial(_: Options) -> grpc.aio.Channel:
        credentials = secrets.current()
        assert credentials is not None
        made.append(grpc.aio.secure_channel(server.address, credentials))
        return made[-1]

    endpoint = Endpoint(server.instance(), dial, secret=secrets.current)
    authority.issue("client")
    renewing = asyncio.create_task(endpoint.renew(5.0))
    while len(made) < 2:  # noqa: ASYNC110 - it has begun with the loop's next turn
        await asyncio.sleep(0)
    if way == "cancelled":
        renewing.cancel()
    await endpoint.close()
    await asyncio.wait([renewing])
    assert [channel.get_state() for channel in made] == [ChannelConnectivity.SHUTDOWN] * 2
    await server.stop()


async def test_health_watches_that_are_over_are_forgotten(servers: list[EchoServer]) -> None:
    """However often an endpoint's health is watched anew, it keeps the present watch and what has not ended."""
    endpoint = connector(with_defaults(()), Secrets(None), None)(servers[0].instance())
    for _ in range(20):
        endpoint.watch_health("", random.Random(1), lambda: None)
        while not endpoint.line.ready:
            endpoint.look()
            await asyncio.sleep(0.001)
        endpoint.look()
        await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while sum(not health.has_ended for health in endpoint._healths) > 3:  # noqa: ASYNC110 - they end by themselves
                await asyncio.sleep(0.01)
    assert len(endpoint._healths) < 6
    await endpoint.close()


# Deadlines


async def test_a_timeout_of_centuries_is_none(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """A service config may name any duration that protobuf can hold; gRPC's clock cannot hold all of them."""
    resolver.push(snapshot(1, servers[0].instance()))
    config = {"methodConfig": [{"name": [{}], "timeout": "315576000000s"}]}
    async with Channel("echo", resolver, service_config=config) as channel:
        call = Echo(channel).unary_unary(b"name")
        assert call.time_remaining() is None
        assert await call == b"s0"
