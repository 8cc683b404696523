"""What grpcio says when a peer goes silent, and when a process dies: the texts on which `hosts` relies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from grpc_balancer.failure import reason
from grpc_balancer.hosts import speaks_of_the_machine
from grpc_balancer.options import FAST_KEEPALIVE, SERVER_FAST_KEEPALIVE, with_defaults
from tests.integration.client.echo import Echo, EchoProcess, EchoServer
from tests.integration.client.proxy import Proxy

QUICK = {
    "grpc.keepalive_time_ms": 1_000,
    "grpc.keepalive_timeout_ms": 4_000,
    "grpc.http2.ping_timeout_ms": 4_000,
    "grpc.min_reconnect_backoff_ms": 1_000,
}
"""FAST_KEEPALIVE, and faster, though not so fast that this process seems to be gone when it stands still."""


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before a server that may be pinged often."""
    options = dict(SERVER_FAST_KEEPALIVE) | {"grpc.http2.min_ping_interval_without_data_ms": 100}
    server = await EchoServer(options=list(options.items())).start()
    made = await Proxy(server.port).start()
    yield made
    await made.stop()
    await server.stop()


def channel_to(port: int) -> grpc.aio.Channel:
    options = with_defaults((dict(FAST_KEEPALIVE) | QUICK).items())
    return grpc.aio.insecure_channel(f"dns:///127.0.0.1:{port}", options)


async def failure_of(call: Any) -> str:
    """What is left of the details of a call that fails with UNAVAILABLE."""
    assert await call.code() is StatusCode.UNAVAILABLE
    return reason(await call.details())


async def reasons_of_loss(channel: grpc.aio.Channel, in_progress: Any) -> list[str]:
    """What the call in progress is told, what those that come too early, and why there is no new connection."""
    async with asyncio.timeout(40):
        reasons = [await failure_of(in_progress)]
        while reasons[-1].startswith("Stream removed"):
            reasons.append(await failure_of(Echo(channel).unary_unary(b"x", timeout=30)))
        return reasons


async def test_silence_is_told_as_such(proxy: Proxy) -> None:
    """A call in progress when the peer goes silent, and the attempts to connect after it, speak of the machine."""
    channel = channel_to(proxy.port)
    await Echo(channel).unary_unary(b"x", wait_for_ready=True)
    in_progress = Echo(channel).unary_unary(b"sleep 60")
    proxy.freeze()
    reasons = await reasons_of_loss(channel, in_progress)
    assert "ping timeout" in reasons[0]
    assert reasons[-1] == "connection attempt timed out before receiving SETTINGS frame"
    assert all(speaks_of_the_machine(reason) for reason in reasons)
    await channel.close()


async def test_death_is_told_as_such(processes: list[EchoProcess]) -> None:
    """A call in progress when its process is killed, and attempts to connect after it, do not speak of the machine."""
    process = processes[0]
    channel = channel_to(process.port)
    in_progress = Echo(channel).unary_unary(b"sleep 60", wait_for_ready=True)
    await Echo(channel).unary_unary(b"x", wait_for_ready=True)  # behind the other one, on the same connection
    process.kill()
    reasons = await reasons_of_loss(channel, in_progress)
    assert reasons[-1] == "Connection refused"
    assert not any(speaks_of_the_machine(reason) for reason in reasons)
    await channel.close()
