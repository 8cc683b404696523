"""Channels over real registries: etcd, killed and wiped under load, and the one in memory."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Lifecycle, Registration, State
from grpc_registry.memory import MemoryRegistry, MemorySpace
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoProcess, EchoServer
from tests.integration.client.load import status_lost, under_load
from tests.servers import Etcd

TTL = 3


async def shown(channel: Channel, *texts: str) -> None:
    """Return once all of `texts` are in the channel's repr."""
    while not all(text in repr(channel) for text in texts):
        await channel._dispatcher.change()


@contextlib.asynccontextmanager
async def registered(url: str, *instances: Instance) -> AsyncIterator[list[Registration]]:
    """The instances, each registered as by a process of its own."""
    async with contextlib.AsyncExitStack() as stack:
        registrations = []
        for instance in instances:
            registry = await stack.enter_async_context(grpc_registry.connect(url, ttl=TTL))
            registrations.append(registry.register(instance))
        for registration in registrations:
            await registration.wait_registered()
        yield registrations


@pytest.fixture(params=["memory", "etcd"])
def url(request: pytest.FixtureRequest) -> str:
    """A registry with nothing in it."""
    if request.param == "memory":
        return f"memory://{secrets.token_hex(4)}"
    etcd: Etcd = request.getfixturevalue("shared_etcd")
    return f"{etcd.url}/{secrets.token_hex(4)}"


@contextlib.asynccontextmanager
async def living(handler: EchoServer, registry: MemoryRegistry) -> AsyncIterator[Lifecycle]:
    """A server with a health service that lives as `grpc_registry.serving` has it."""
    server, health = grpc.aio.server(), health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_generic_rpc_handlers([handler])
    instance = Instance("echo", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", id=handler.name)
    options: dict[str, Any] = {"health": health, "propagation_delay": 1.0, "signals": ()}
    async with grpc_registry.serving(server, registry, instance, **options) as lifecycle:
        yield lifecycle


async def test_servers_drain_without_a_registry_and_fail_no_call() -> None:
    """Those that watch health go elsewhere before a server stops, though the registry tells them nothing."""
    space, handlers = MemorySpace(), [EchoServer(f"s{number}") for number in range(3)]
    async with (
        MemoryRegistry(space) as registry,
        living(handlers[0], registry) as first,
        living(handlers[1], registry) as second,
        living(handlers[2], registry),
        Channel("echo", registry, service_config={"healthCheckConfig": {"serviceName": ""}}) as channel,
    ):
        await all_connected(channel)
        async with under_load(channel) as load:
            await load.more(100)
            space.go_away("maintenance")
            for lifecycle in (first, second):
                await lifecycle.drain()
                await load.more(50)
    assert [error for error in load.errors if not status_lost(error)] == []


async def test_registered_instances_are_called(url: str, servers: list[EchoServer]) -> None:
    """Instances that register are found, weighted as they say, drained and undrained as they are told."""
    instances = [server.instance() for server in servers]
    async with (
        registered(url, *instances) as registrations,
        grpc_registry.connect(url) as registry,
        Channel("echo", registry, policy="weighted_round_robin") as channel,
    ):
        await all_connected(channel)
        echo = Echo(channel)
        assert {await echo.unary_unary(b"name") for _ in range(12)} == {b"s0", b"s1", b"s2"}
        await registrations[0].update(state=State.DRAINING)
        await shown(channel, "2 of 3 ready")
        assert {await echo.unary_unary(b"name") for _ in range(12)} == {b"s1", b"s2"}
        await registrations[0].update(state=State.SERVING, weight=200)
        await shown(channel, "3 of 3 ready")
        names = [await echo.unary_unary(b"name") for _ in range(40)]
        assert names.count(b"s0") == 20
        await registrations[1].close()
        await shown(channel, "2 of 2 ready")
        assert {await echo.unary_unary(b"name") for _ in range(12)} == {b"s0", b"s2"}


async def test_one_two_one_is_exact(url: str, servers: list[EchoServer]) -> None:
    """Registered weights 1:2:1 give exactly 100, 200 and 100 of any 400 successive calls."""
    instances = [server.instance(weight=weight) for server, weight in zip(servers, (100, 200, 100), strict=True)]
    async with (
        registered(url, *instances),
        grpc_registry.connect(url) as registry,
        Channel("echo", registry, policy="weighted_round_robin") as channel,
    ):
        await all_connected(channel)
        echo = Echo(channel)
        calls = [echo.unary_unary(b"name") for _ in range(700)]
        names = [await call for call in calls]
        for start in range(300):
            assert Counter(names[start : start + 400]) == {b"s0": 100, b"s1": 200, b"s2": 100}


async def test_a_slow_instance_gets_the_smallest_share(url: str, servers: list[EchoServer]) -> None:
    """Under `least_outstanding` the one of three registered instances that is slow gets much less than the others."""
    servers[1].delay = 0.5  # slow beside the others, on a busy machine too
    async with (
        registered(url, *(server.instance() for server in servers)),
        grpc_registry.connect(url) as registry,
        Channel("echo", registry) as channel,
    ):
        await all_connected(channel)
        echo = Echo(channel)

        async def caller() -> None:
            for _ in range(60):
                await echo.unary_unary(b"name")

        await asyncio.gather(*(caller() for _ in range(6)))
    calls = [server.calls["unary_unary"] for server in servers]
    assert calls[1] < 0.4 * min(calls[0], calls[2])


async def test_a_closed_registry_leaves_the_channel_working(url: str, servers: list[EchoServer]) -> None:
    """When the registry is closed under a channel, what it knew stays in use."""
    async with registered(url, servers[0].instance()):
        registry = grpc_registry.connect(url)
        async with registry:
            channel = Channel("echo", registry)
            assert await Echo(channel).unary_unary(b"x") == b"x"
        assert await Echo(channel).unary_unary(b"x") == b"x"
        await channel.close()


async def test_a_killed_instance_is_left_before_its_key_is(etcd: Etcd, tmp_path: Path) -> None:
    """Calls after a `kill -9` succeed while the key still stands; it goes with its TTL, and with it the endpoint."""
    processes = [EchoProcess(tmp_path, f"p{number}") for number in range(3)]
    for process in processes:
        process.registry = etcd.url
        process.ttl = 10  # time for a hundred calls, should this machine stand still for some of it
    try:
        for process in processes:
            process.start()
        async with grpc_registry.connect(etcd.url) as registry, Channel("echo", registry) as channel:
            await all_connected(channel)
            echo = Echo(channel)
            names = {await echo.unary_unary(b"name") for _ in range(90)}  # 30 miss one of them once in 60,000 runs
            assert names == {b"p0", b"p1", b"p2"}
            processes[1].kill()
            await shown(channel, "2 of 3 ready")
            calls = 0
            async with asyncio.timeout(60):
                while "2 of 2 ready" not in repr(channel):
                    assert await echo.unary_unary(b"name", timeout=20) in {b"p0", b"p2"}
                    calls += 1
            assert calls > 100
            await asyncio.to_thread(processes[1].start)
            async with asyncio.timeout(30):
                await all_connected(channel)
            async with asyncio.timeout(30):
                while await echo.unary_unary(b"name") != b"p1":  # which has a small share at first
                    pass
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("wiped", [False, True])
async def test_an_outage_of_etcd_fails_no_call(etcd: Etcd, servers: list[EchoServer], wiped: bool) -> None:
    """etcd is killed under load, for longer than the TTL, and comes back, perhaps empty: no call fails, and what
    changed meanwhile is known within five seconds."""
    leaving, *staying = servers
    newcomer = await EchoServer("new").start()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(registered(etcd.url, *(server.instance() for server in staying)))
        going = await stack.enter_async_context(registered(etcd.url, leaving.instance()))
        registry = await stack.enter_async_context(grpc_registry.connect(etcd.url, ttl=TTL))
        channel = await stack.enter_async_context(Channel("echo", registry, policy="round_robin"))
        await all_connected(channel)
        load = await stack.enter_async_context(under_load(channel))
        await load.more(50)
        etcd.kill()
        await going[0].close()
        newcomers = await stack.enter_async_context(grpc_registry.connect(etcd.url, ttl=TTL))
        registration = newcomers.register(newcomer.instance())
        await asyncio.sleep(TTL + 1)
        load.answers.clear()
        await load.until(lambda: set(load.answers) == {"s0", "s1", "s2"})
        if wiped:
            etcd.wipe()
        await asyncio.to_thread(etcd.start)
        async with asyncio.timeout(5):
            await registration.wait_registered()
            await load.until(lambda: load.answers["new"] > 0)
        assert load.errors == []
    await newcomer.stop()


async def test_etcd_is_away_from_the_start(tmp_path: Path, servers: list[EchoServer]) -> None:
    """A channel that is made before etcd is up says why it has no endpoint, and works once etcd is there."""
    etcd = Etcd(tmp_path / "etcd")
    try:
        async with grpc_registry.connect(etcd.url) as registry, Channel("echo", registry) as channel:
            with pytest.raises(AioRpcError, match="the registry has not answered"):
                await Echo(channel).unary_unary(b"x", timeout=10)
            waiting = Echo(channel).unary_unary(b"x", wait_for_ready=True)
            await asyncio.to_thread(etcd.start)
            async with registered(etcd.url, servers[0].instance()), asyncio.timeout(30):
                assert await waiting == b"x"
    finally:
        etcd.kill()
