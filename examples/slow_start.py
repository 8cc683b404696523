"""Slow start: a replica that joins others gets a tenth of its share at first, since its caches are cold."""

from __future__ import annotations

import asyncio
import sys

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_registry
from grpc_balancer import Channel

WINDOW = 4  # seconds; by default 10


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "one", "two") as warm,
        Channel("demo", registry, policy="weighted_round_robin", slow_start=WINDOW) as channel,
    ):
        await connected(channel, 2)
        await asyncio.sleep(WINDOW)  # those that begin together do not warm up: nobody could take their calls
        async with replicas(registry, "new") as joined:
            stub = health_pb2_grpc.HealthStub(channel)
            await connected(channel, 3)
            for moment, pause in (("at first", 0), ("when it is warm", WINDOW)):
                await asyncio.sleep(pause)
                for _ in range(30):
                    await ask(stub)
                print(f"{moment}, of 30 calls: {tally([*warm, *joined])}")


asyncio.run(main(*sys.argv[1:]))
