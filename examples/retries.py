"""Retries (gRFC A6): a failed call is made again, at another replica, if the service config says that it may be."""

from __future__ import annotations

import asyncio
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_registry
from grpc_balancer import Channel

SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "grpc.health.v1.Health", "method": "Check"}],
            "timeout": "10s",
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
}


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, replicas(registry, "one", "two", "broken") as servers:
        servers[-1].code = grpc.StatusCode.UNAVAILABLE
        for name, config in (("without", None), ("with", SERVICE_CONFIG)):
            # round_robin and no ejection, so that every third call meets the broken replica.
            channel = Channel("demo", registry, service_config=config, policy="round_robin", outlier_detection=None)
            async with channel:
                await connected(channel, 3)
                stub, errors = health_pb2_grpc.HealthStub(channel), list[str]()
                for _ in range(90):
                    try:
                        await ask(stub)
                    except grpc.aio.AioRpcError as error:
                        errors.append(f"{error.code().name}: {error.details()}")
                print(f"{name} retries: {len(errors)} of 90 calls failed; attempts: {tally(servers)}")
                if errors:
                    print("  the last with", errors[-1])


asyncio.run(main(*sys.argv[1:]))
