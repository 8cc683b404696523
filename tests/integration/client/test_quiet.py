"""What is logged, and that it is little: in an outage of etcd, and about endpoints that fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from random import Random

import grpc.aio
import pytest

import grpc_registry
from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance
from grpc_registry.service_config import OutlierDetection
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot
from tests.integration.client.scripted import ScriptedServer
from tests.servers import Etcd

SERVICES, CLIENTS = 10, 3


async def test_an_outage_of_etcd_is_two_lines_a_process(
    etcd: Etcd, servers: list[EchoServer], caplog: pytest.LogCaptureFixture
) -> None:
    """However many services, channels, watches and registrations there are, each connection to the registry says that
    it went away and that it came back, and nothing else is logged while calls go on."""
    caplog.set_level(logging.INFO)
    names = [f"echo{number}" for number in range(SERVICES)]
    async with contextlib.AsyncExitStack() as stack:
        registries = [
            await stack.enter_async_context(grpc_registry.connect(etcd.url, rng=Random(number)))
            for number in range(CLIENTS)
        ]
        for name in names:
            for server in servers:
                await registries[0].register(Instance(name, server.address, id=server.name)).wait_registered()
        channels = [
            await stack.enter_async_context(Channel(name, registry)) for name in names for registry in registries
        ]
        for channel in channels:
            await all_connected(channel)
        assert caplog.messages == []
        await asyncio.to_thread(etcd.kill)
        ends = asyncio.get_running_loop().time() + 4  # time for dozens of tries by each of them
        while asyncio.get_running_loop().time() < ends:
            for channel in channels:
                assert await Echo(channel).unary_unary(b"x", timeout=20) == b"x"
            await asyncio.sleep(0.2)
        assert all(channel.explain().stale_for > 0 for channel in channels)
        await asyncio.to_thread(etcd.start)
        async with asyncio.timeout(30):
            while any(channel.explain().stale_for for channel in channels):  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.05)
    said = [(record.levelname, record.name) for record in caplog.records]
    assert said.count(("WARNING", "grpc_registry.etcd.reachability")) == CLIENTS
    assert said.count(("INFO", "grpc_registry.etcd.reachability")) == CLIENTS
    assert len(said) == 2 * CLIENTS


async def test_an_ejection_is_two_lines(resolver: ManualResolver, caplog: pytest.LogCaptureFixture) -> None:
    """An ejection is a warning with the endpoint's name, its end is worth a line too, and failures are none.

    What is said is there as fields of the record, too.
    """
    servers = [await ScriptedServer(f"s{number}").start() for number in range(3)]
    caplog.set_level(logging.INFO, "grpc_balancer")
    quick = OutlierDetection(interval=0.1, base_ejection_time=0.5)
    servers[1].fails(times=5)
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=quick) as channel:
        await all_connected(channel)
        call = Echo(channel).unary_unary
        async with asyncio.timeout(30):
            while len(servers[1].seen) < 6:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call(b"x")
    for server in servers:
        await server.stop()
    address = servers[1].instance().address
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"ejected s1 {address} of 'echo': its calls fail or take too long"),
        ("INFO", f"s1 {address} of 'echo' is not ejected any more"),
    ]
    for record in caplog.records:
        fields = {name: value for name, value in vars(record).items() if name.startswith("mesh_")}
        assert fields == {"mesh_service": "echo", "mesh_instance": "s1", "mesh_address": address}
