"""Connected endpoints that are not picked: their calls fail, their server says so, or their machine is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance
from grpc_registry.service_config import OutlierDetection
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoProcess, EchoServer, snapshot
from tests.integration.client.proxy import Proxy
from tests.integration.client.scripted import Fail, ScriptedServer

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

QUICK = OutlierDetection(interval=0.1, base_ejection_time=1.0)


async def answers(channel: Channel, number: int, request: bytes = b"name") -> list[bytes | StatusCode]:
    """What so many calls, one after another, are answered or fail with."""
    echo, found = Echo(channel), list[bytes | StatusCode]()
    for _ in range(number):
        try:
            found.append(await echo.unary_unary(request, timeout=20))
        except grpc.aio.AioRpcError as error:
            found.append(error.code())
    return found


async def until_answered_by(channel: Channel, *names: bytes) -> None:
    """Return once calls are answered by all of these, and by nobody else. Fails after 30 s."""
    async with asyncio.timeout(30):
        found: set[bytes | StatusCode] = set()
        while found != set(names):
            await asyncio.sleep(0.01)  # a call that finds no endpoint fails without letting anything else happen
            found = set(await answers(channel, 2 * len(names) + 4))


def left_out(channel: Channel) -> dict[str, str]:
    """Why instances are not picked, by id."""
    return {row.instance.id: row.left_out for row in channel.explain().instances if row.left_out}


# Calls that fail


@pytest.fixture
async def scripted() -> AsyncIterator[list[ScriptedServer]]:
    """Three servers s0, s1, s2 that fail as they are told."""
    made = [await ScriptedServer(f"s{number}").start() for number in range(3)]
    yield made
    for server in made:
        await server.stop()


async def test_who_sheds_load_is_not_ejected(scripted: list[ScriptedServer], resolver: ManualResolver) -> None:
    """A server that fails its calls and says when to come back gets fewer of them, and is never left out."""
    for server in scripted:
        server.fails(Fail(trailing=(("grpc-retry-pushback-ms", "100"),)), times=20)
    resolver.push(snapshot(1, *(server.instance() for server in scripted)))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=QUICK) as channel:
        await all_connected(channel)
        assert set(await answers(channel, 30)) == {StatusCode.UNAVAILABLE}
        assert left_out(channel) == {}


@pytest.mark.parametrize(("timeout", "ejected"), [(0.01, False), (0.1, True)])
async def test_an_impossible_deadline_is_its_callers_doing(
    scripted: list[ScriptedServer], resolver: ManualResolver, timeout: float, ejected: bool
) -> None:
    """An endpoint that misses deadlines is ejected, but not for those that leave it no time, however late a caller who
    is busy himself hears that they have passed."""
    scripted[1].fails(Fail(StatusCode.OK, after=30), times=20)
    resolver.push(snapshot(1, *(server.instance() for server in scripted)))
    # As many as there may be: the others miss deadlines too, if this machine stands still.
    everyone = replace(QUICK, base_ejection_time=60.0, max_ejection_percent=100)
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=everyone) as channel:
        await all_connected(channel)
        calls = [Echo(channel).unary_unary(b"x", timeout=timeout) for _ in range(18)]
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - the busy caller
        codes = [await call.code() for call in calls]
        assert codes.count(StatusCode.DEADLINE_EXCEEDED) >= 5
        found = {one.instance.id for one in channel._dispatcher.balancer.endpoints if one.record.ejected}
        assert ("s1" in found) is ejected
        assert ejected or not found


async def test_who_fails_is_left_alone_for_a_while(scripted: list[ScriptedServer], resolver: ManualResolver) -> None:
    """Of a server whose calls fail five are seen to, then the others have all of them, until its time is over."""
    bad, now = scripted[1], 1000.0
    bad.fails(times=5)
    resolver.push(snapshot(1, *(server.instance() for server in scripted)))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=QUICK, clock=lambda: now) as channel:
        await all_connected(channel)
        found = await answers(channel, 60, b"x")
        assert found.count(StatusCode.UNAVAILABLE) == len(bad.seen) == 5
        now += 0.9 * QUICK.base_ejection_time
        await asyncio.sleep(0.3)  # time to look three times
        await answers(channel, 12, b"x")
        assert len(bad.seen) == 5
        assert left_out(channel)["s1"].startswith("ejected for ")
        now += 0.1 * QUICK.base_ejection_time + QUICK.interval
        async with asyncio.timeout(30):
            while len(bad.seen) == 5:
                await answers(channel, 1, b"x")
        assert left_out(channel) == {}


async def test_what_the_application_refuses_ejects_nobody(servers: list[EchoServer], resolver: ManualResolver) -> None:
    """An endpoint that answers NOT_FOUND to every call is as good as any."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=QUICK) as channel:
        await all_connected(channel)
        assert await answers(channel, 60, b"fail NOT_FOUND no such thing") == [StatusCode.NOT_FOUND] * 60
        assert left_out(channel) == {}


async def test_ejections_do_not_count_when_too_many_are_ejected(
    scripted: list[ScriptedServer], resolver: ManualResolver
) -> None:
    """If two of three are ejected, all three are picked."""
    everyone = replace(QUICK, base_ejection_time=60.0, max_ejection_percent=100)
    for server in scripted[:2]:
        server.fails(times=5)
    resolver.push(snapshot(1, *(server.instance() for server in scripted)))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=everyone) as channel:
        await all_connected(channel)
        found = await answers(channel, 60, b"x")
        assert found.count(StatusCode.UNAVAILABLE) == 10
        assert "2 ejected" in repr(channel)
        assert set(found[-9:]) == {b"x s0", b"x s1", b"x s2"}


async def test_nobody_is_ejected_without_detection(scripted: list[ScriptedServer], resolver: ManualResolver) -> None:
    """With `outlier_detection=None` a server may fail for ever."""
    scripted[0].script.extend([Fail()] * 20)
    resolver.push(snapshot(1, *(server.instance() for server in scripted)))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=None) as channel:
        await all_connected(channel)
        assert (await answers(channel, 60, b"x")).count(StatusCode.UNAVAILABLE) == 20


# Servers that say how they are


class HealthyEcho(EchoServer):
    """An echo server that can be watched."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.health = health_aio.HealthServicer()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method == "/grpc.health.v1.Health/Watch":
            return grpc.unary_stream_rpc_method_handler(
                self.health.Watch,
                request_deserializer=health_pb2.HealthCheckRequest.FromString,
                response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
            )
        return super().service(handler_call_details)


async def test_who_says_that_it_does_not_serve_is_not_picked(resolver: ManualResolver) -> None:
    """With `healthCheckConfig` calls go to those that say SERVING, without any that fails while they change."""
    servers = [HealthyEcho("s0"), HealthyEcho("s1")]
    for server in servers:
        await server.start()
        await server.health.set("shop", SERVING)
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    config = {"healthCheckConfig": {"serviceName": "shop"}, "loadBalancingConfig": [{"round_robin": {}}]}
    async with Channel("echo", resolver, service_config=config) as channel:
        await until_answered_by(channel, b"s0", b"s1")
        await servers[0].health.set("shop", NOT_SERVING)
        await until_answered_by(channel, b"s1")
        assert left_out(channel) == {"s0": "transient failure: the server says NOT_SERVING"}
        await servers[1].health.set("shop", NOT_SERVING)
        async with asyncio.timeout(30):
            found = await answers(channel, 1)
            while found != [StatusCode.UNAVAILABLE]:
                await asyncio.sleep(0.01)
                found = await answers(channel, 1)
        with pytest.raises(grpc.aio.AioRpcError, match="the server says NOT_SERVING"):
            await Echo(channel).unary_unary(b"name")
        for server in servers:
            await server.health.set("shop", SERVING)
        await until_answered_by(channel, b"s0", b"s1")
    for server in servers:
        await server.stop()


async def test_servers_without_health_service_are_picked(servers: list[EchoServer], resolver: ManualResolver) -> None:
    """Asking for the health of servers that cannot tell it leaves all of them in."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    config = {"healthCheckConfig": {"serviceName": ""}, "loadBalancingConfig": [{"round_robin": {}}]}
    async with Channel("echo", resolver, service_config=config) as channel:
        await until_answered_by(channel, b"s0", b"s1", b"s2")


# Machines that went silent

KEEPALIVE = [
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.min_reconnect_backoff_ms", 4_000),
]
"""Only with calls in progress, so that a silent connection at rest is not noticed for itself. Servers and proxies of
this process may be as silent as a machine that is gone while it stands still for a second or two."""


@pytest.fixture
async def proxies(servers: list[EchoServer]) -> AsyncIterator[list[Proxy]]:
    """A proxy before each server."""
    made = [await Proxy(server.port).start() for server in servers]
    yield made
    for proxy in made:
        await proxy.stop()


async def test_the_neighbours_of_a_silent_endpoint_are_asked_first(
    servers: list[EchoServer], proxies: list[Proxy], resolver: ManualResolver
) -> None:
    """When one endpoint of a machine went silent, no call has to find out that the other one there is silent too."""
    first, near, far = (
        Instance("echo", f"127.0.0.1:{proxy.port}", id=server.name, host=host)
        for server, proxy, host in zip(servers, proxies, ("here", "here", "elsewhere"), strict=True)
    )
    resolver.push(snapshot(1, first))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=None, options=KEEPALIVE) as channel:
        in_progress = Echo(channel).unary_unary(b"sleep 60")
        await servers[0].until(lambda: servers[0].running == 1)
        resolver.push(snapshot(2, first, near, far))
        await all_connected(channel)
        for proxy in proxies[:2]:
            proxy.freeze()
        async with asyncio.timeout(30):
            while "s1" not in left_out(channel):  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.02)
        assert await in_progress.code() is StatusCode.UNAVAILABLE
        assert "here" in left_out(channel)["s1"]
        assert await answers(channel, 12) == [b"s2"] * 12
        for proxy in proxies[:2]:
            proxy.thaw()
        await until_answered_by(channel, b"s0", b"s1", b"s2")


async def test_a_frozen_worker_does_not_take_its_machine_along(
    processes: list[EchoProcess], resolver: ManualResolver
) -> None:
    """Of two workers that are stopped and one that is not, on one machine, only that one is picked, and a far one."""
    far = await EchoServer("far").start()
    workers = [replace(process.instance(), host="here") for process in processes]
    resolver.push(snapshot(1, workers[0]))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=None, options=KEEPALIVE) as channel:
        in_progress = Echo(channel).unary_unary(b"sleep 60")
        assert await Echo(channel).unary_unary(b"name") == b"p0"  # behind the other one, on the same connection
        resolver.push(snapshot(2, *workers, replace(far.instance(), host="elsewhere")))
        await all_connected(channel, 4)
        for process in processes[:2]:
            process.pause()
        assert await in_progress.code() is StatusCode.UNAVAILABLE
        async with asyncio.timeout(30):
            # p2 is suspect as well, until it has answered
            while set(left_out(channel)) != {"p0", "p1"}:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.02)
        assert set(await answers(channel, 12)) == {b"p2", b"far"}
        for process in processes[:2]:
            process.resume()
        await until_answered_by(channel, b"p0", b"p1", b"p2", b"far")
    await far.stop()
