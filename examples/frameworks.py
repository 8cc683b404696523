"""Formats of other frameworks: one server, found by clients of kratos and of go-zero too, and theirs found by ours.

It needs an etcd: python examples/frameworks.py etcd://127.0.0.1:2379
"""

from __future__ import annotations

import asyncio
import sys

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, replicas

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import GoZero, Kratos, Registry

KRATOS = Kratos(namespace="/demo-microservices")  # its default is /microservices
GO_ZERO = GoZero("{service}.rpc")  # as goctl names the keys


async def main(url: str = "etcd://127.0.0.1:2379") -> None:
    # Written under one lease: etcd's own naming, kratos' and go-zero's.
    async with grpc_registry.connect(url, timeout=3, also=[KRATOS, GO_ZERO]) as registry:
        try:
            await registry.list("demo")  # a registration would wait for etcd for ever
        except grpc_registry.RegistryError as error:
            sys.exit(f"This example needs an etcd, by default at 127.0.0.1:2379: {error}")
        await show(registry)


async def show(registry: Registry) -> None:
    """Find one server as a client of each framework finds it."""
    async with replicas(registry, "one", version="1.4.0", weight=200):
        for name, found in (
            ("etcd's naming", registry),
            ("kratos", registry.in_format(KRATOS)),
            ("go-zero", registry.in_format(GO_ZERO)),
        ):
            async with Channel("demo", found) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                answered = await ask(stub)
                (seen,) = channel.explain().candidates
                instance = seen.instance
                print(f"{name}: answered by {answered}; version {instance.version or '-'}, weight {instance.weight}")


asyncio.run(main(*sys.argv[1:]))
