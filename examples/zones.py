"""Zones: calls stay in the caller's zone while that has the capacity, and spill into the others as it loses it."""

from __future__ import annotations

import asyncio
import sys

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_registry
from grpc_balancer import Channel


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "a1", "a2", "a3", "a4", zone="a") as here,
        replicas(registry, "b1", "b2", "b3", "b4", zone="b") as there,
        Channel("demo", registry, zone="a") as channel,
    ):
        await connected(channel, 8)
        stub = health_pb2_grpc.HealthStub(channel)
        for dead in range(4):
            await connected(channel, 8 - dead)
            for _ in range(200):
                await ask(stub)
            share = sum(server.calls for server in here) / 200
            print(f"{4 - dead} of 4 here: {share:.0%} of the calls stay ({tally([*here, *there])})")
            # It dies: it stays registered, but cannot be reached. (One that drains or leaves is not missed.)
            await here[dead].server.stop(None)


asyncio.run(main(*sys.argv[1:]))
