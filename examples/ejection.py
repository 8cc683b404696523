"""Outlier detection and `explain`: a replica whose calls fail is ejected for a while, and the channel says why."""

from __future__ import annotations

import asyncio
import logging
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_registry
from grpc_balancer import Channel, OutlierDetection

logging.basicConfig(format="log: %(message)s", stream=sys.stdout)

# By default an ejection lasts 30 s, the next one 60 s, and so on, and ends are looked for every 10 s.
DETECTION = OutlierDetection(consecutive_failures=5, base_ejection_time=5, interval=0.1)


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, replicas(registry, "one", "two", "broken") as servers:
        broken = servers[-1]
        broken.code = grpc.StatusCode.UNAVAILABLE
        async with Channel("demo", registry, policy="round_robin", outlier_detection=DETECTION) as channel:
            await connected(channel, 3)
            stub = health_pb2_grpc.HealthStub(channel)

            failed = 0
            for _ in range(60):
                try:
                    await ask(stub)
                except grpc.aio.AioRpcError:
                    failed += 1
            print(f"{failed} of 60 calls failed: {tally(servers)}")
            print(channel.explain("/grpc.health.v1.Health/Check"))

            broken.code = None
            await connected(channel, 3)
            for _ in range(60):
                await ask(stub)
            print(f"after the ejection, of 60 calls: {tally(servers)}")


asyncio.run(main(*sys.argv[1:]))
