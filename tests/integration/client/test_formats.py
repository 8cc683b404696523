"""A channel to services that other frameworks registered."""

from __future__ import annotations

import asyncio

import pytest

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance
from tests.integration.client.echo import Echo, EchoServer
from tests.servers import Etcd


@pytest.mark.parametrize(
    ("form", "key", "value"),
    [
        (
            "kratos",
            "/microservices/echo/k1",
            '{{"id":"k1","name":"echo","version":"","metadata":null,"endpoints":["grpc://{address}"]}}',
        ),
        ("go-zero", "echo/100", "{address}"),
    ],
)
async def test_a_channel_calls_services_of_other_frameworks(etcd: Etcd, form: str, key: str, value: str) -> None:
    """What kratos or go-zero registered is called, and so is an instance of ours in that format that comes later."""
    server = await EchoServer("one").start()
    later = await EchoServer("two").start()
    await asyncio.to_thread(etcd.ctl, "put", key, value.format(address=server.address))
    async with (
        grpc_registry.connect(etcd.url, also=[form]) as registry,
        Channel("echo", registry.in_format(form), policy="round_robin") as channel,
    ):
        assert await Echo(channel).unary_unary(b"name", timeout=10) == b"one"
        registry.register(Instance("echo", later.address))
        async with asyncio.timeout(30):
            while await Echo(channel).unary_unary(b"name", timeout=10) != b"two":
                pass
    await server.stop()
    await later.stop()
