"""Hedging (gRFC A6): a call that is not answered in time is sent to a second replica too; the first answer counts."""

from __future__ import annotations

import asyncio
import sys

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_registry
from grpc_balancer import Channel

SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "grpc.health.v1.Health", "method": "Check"}],
            "hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0.05s", "nonFatalStatusCodes": ["UNAVAILABLE"]},
        }
    ]
}


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, replicas(registry, "one", "two", "stuck") as servers:
        servers[-1].delay = 5
        for name, config in (("without", None), ("with", SERVICE_CONFIG)):
            # round_robin, which goes on to send every third call to the stuck replica.
            async with Channel("demo", registry, service_config=config, policy="round_robin") as channel:
                await connected(channel, 3)
                stub = health_pb2_grpc.HealthStub(channel)
                times = sorted(await asyncio.gather(*(timed(stub) for _ in range(30))))
                slowest = 1000 * times[-1]
                print(f"{name} hedging: the slowest of 30 calls took {slowest:.0f} ms; attempts: {tally(servers)}")


async def timed(stub: health_pb2_grpc.HealthStub) -> float:
    """Seconds that a call takes."""
    begun = asyncio.get_running_loop().time()
    await ask(stub)
    return asyncio.get_running_loop().time() - begun


asyncio.run(main(*sys.argv[1:]))
