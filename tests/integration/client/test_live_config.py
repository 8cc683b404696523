"""The service config in the registry: in force within a second, without a lost call."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc.aio import AioRpcError

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Registry
from tests.elapsed import measured
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer
from tests.integration.client.load import under_load
from tests.integration.client.test_ejection import NOT_SERVING, HealthyEcho, until_answered_by
from tests.servers.etcd import Etcd

RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["ABORTED"],
}
HEDGE = {"maxAttempts": 2, "hedgingDelay": "10s", "nonFatalStatusCodes": ["ABORTED"]}


def config(**fields: Any) -> str:
    method = {key: fields.pop(key) for key in ("timeout", "retryPolicy", "hedgingPolicy") if key in fields}
    return json.dumps({"methodConfig": [{"name": [{}], **method}], **fields})


@pytest.fixture
async def registry(shared_etcd: Etcd, servers: list[EchoServer]) -> AsyncIterator[Registry]:
    """A registry in etcd, with three servers in it."""
    async with grpc_registry.connect(shared_etcd.url, prefix=f"t{time.monotonic_ns()}") as connected:
        for server in servers:
            await connected.register(server.instance()).wait_registered()
        yield connected


async def test_policy_timeout_and_retries_change_under_load_within_a_second(
    registry: Registry, servers: list[EchoServer]
) -> None:
    """Each change is in force in less than a second, and no call fails for it."""
    async with Channel("echo", registry) as channel, under_load(channel) as load:
        await all_connected(channel)
        await load.more(30)

        await registry.set_config("echo", config(loadBalancingConfig=[{"round_robin": {}}], timeout="70s"))
        async with measured() as since_written:  # how long etcd takes to write is not the channel's doing
            while "<Channel round_robin" not in repr(channel):
                await channel._dispatcher.change()
            assert since_written.seconds < 1.0
        call = Echo(channel).unary_unary(b"sleep 0.01")
        assert 60 < (call.time_remaining() or 0) <= 70
        await call

        await load.more(30)
        await registry.remove_config("echo")
        while "<Channel least_outstanding" not in repr(channel):
            await channel._dispatcher.change()
        await load.more(30)
    assert load.errors == []


async def test_a_stub_that_exists_follows_the_config(registry: Registry, servers: list[EchoServer]) -> None:
    """A stub made before the change retries after it, and stops to when the config is gone."""
    async with Channel("echo", registry) as channel:
        echo = Echo(channel)
        with pytest.raises(AioRpcError):
            await echo.unary_unary(b"fail ABORTED no")
        assert sum(server.calls["unary_unary"] for server in servers) == 1
        await registry.set_config("echo", config(retryPolicy=RETRY))
        while not channel._dispatcher.config.methods:
            await channel._dispatcher.change()
        with pytest.raises(AioRpcError):
            await echo.unary_unary(b"fail ABORTED no")
        assert sum(server.calls["unary_unary"] for server in servers) == 4


async def test_the_first_call_obeys_the_registrys_config(registry: Registry) -> None:
    """A channel that is new waits for the config before its first pick, so that even that obeys the policy."""
    await registry.set_config("echo", config(loadBalancingConfig=[{"pick_first": {}}]))
    async with Channel("echo", registry) as channel:
        echo = Echo(channel)
        names = {await echo.unary_unary(b"name") for _ in range(9)}
    assert len(names) == 1


async def test_a_program_may_keep_to_its_own_config(registry: Registry) -> None:
    """With `watch_config=False` the registry's config means nothing."""
    await registry.set_config("echo", config(loadBalancingConfig=[{"pick_first": {}}]))
    async with Channel("echo", registry, policy="round_robin", watch_config=False) as channel:
        await all_connected(channel)
        echo = Echo(channel)
        assert len({await echo.unary_unary(b"name") for _ in range(6)}) == 3
        assert "<Channel round_robin" in repr(channel)


async def test_an_outage_leaves_the_config_in_force(etcd: Etcd, servers: list[EchoServer]) -> None:
    """While etcd is away, and after its data was wiped, the last config that was known holds."""
    async with grpc_registry.connect(etcd.url) as registry:
        for server in servers:
            await registry.register(server.instance()).wait_registered()
        await registry.set_config("echo", config(loadBalancingConfig=[{"round_robin": {}}]))
        async with Channel("echo", registry) as channel:
            await all_connected(channel)
            etcd.kill()
            echo = Echo(channel)
            assert len({await echo.unary_unary(b"name") for _ in range(6)}) == 3
            assert "<Channel round_robin" in repr(channel)
            etcd.wipe()
            etcd.start()
            async with asyncio.timeout(30):
                while channel._dispatcher.balancer.stale_for:
                    await channel._dispatcher.change()
            assert "<Channel round_robin" in repr(channel)
            assert await echo.unary_unary(b"name")


async def test_retries_and_hedging_change_under_load_within_a_second(
    registry: Registry, servers: list[EchoServer]
) -> None:
    """A call that is made less than a second after the change is retried, hedged, or neither; no call fails for it."""
    async with Channel("echo", registry) as channel, under_load(channel) as load:
        await all_connected(channel)
        echo = Echo(channel)

        async def attempts() -> int:
            before = sum(server.calls["stream_unary"] for server in servers)  # which the load does not use
            with pytest.raises(AioRpcError):
                await echo.stream_unary(iter([b"fail ABORTED no"]))
            return sum(server.calls["stream_unary"] for server in servers) - before

        assert await attempts() == 1
        for fields, expected in (({"retryPolicy": RETRY}, 3), ({"hedgingPolicy": HEDGE}, 2), ({"timeout": "5s"}, 1)):
            await load.more(30)
            await registry.set_config("echo", config(**fields))
            async with measured() as since_written:
                made = 0.0
                while await attempts() != expected:
                    assert made < 1.0
                    made = since_written.seconds
            await load.more(30)
    assert load.errors == []


async def test_health_in_the_config_takes_who_does_not_serve_out(registry: Registry, servers: list[EchoServer]) -> None:
    """`healthCheckConfig` set in the registry is obeyed by a channel that exists, until it is removed; servers that
    know no grpc.health.v1 stay in use (gRFC A17)."""
    sick = HealthyEcho("sick")
    await sick.start()
    await sick.health.set("shop", NOT_SERVING)
    await registry.register(sick.instance()).wait_registered()
    everybody = [*(server.name.encode() for server in servers), b"sick"]
    async with Channel("echo", registry, policy="round_robin") as channel:
        await until_answered_by(channel, *everybody)
        await registry.set_config("echo", config(healthCheckConfig={"serviceName": "shop"}))
        await until_answered_by(channel, b"s0", b"s1", b"s2")
        await registry.remove_config("echo")
        await until_answered_by(channel, *everybody)
    await sick.stop()
