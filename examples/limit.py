"""A limit on outstanding calls: what an overloaded service cannot take fails at once, or waits within its deadline."""

from __future__ import annotations

import asyncio
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas

import grpc_registry
from grpc_balancer import Channel, OutstandingLimit


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, replicas(registry, "one", "two") as servers:
        for server in servers:
            server.delay = 0.2
        for limit in (OutstandingLimit(per_endpoint=2), OutstandingLimit(per_endpoint=2, queue=3)):
            async with Channel("demo", registry, limit=limit) as channel:
                await connected(channel, 2)
                stub = health_pb2_grpc.HealthStub(channel)
                ends = await asyncio.gather(*(ask(stub) for _ in range(10)), return_exceptions=True)
                errors = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
                print(f"queue of {limit.queue}: {10 - len(errors)} of 10 calls at once answered, {len(errors)} failed")
                print(f"  {errors[0].code().name}: {errors[0].details()}")


asyncio.run(main(*sys.argv[1:]))
