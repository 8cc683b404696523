"""Policies and weights: the same calls under each policy, to three replicas: one is slow, and one counts double."""

from __future__ import annotations

import asyncio
import sys

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_balancer
import grpc_registry

CALLS, CALLERS = 400, 8


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "slow", "normal") as (slow, normal),
        replicas(registry, "double", weight=200) as (double,),
    ):
        slow.delay = 0.020
        print(f"{CALLS} calls, {CALLERS} at a time; slow takes 20 ms, the others 1 ms; double has twice the weight")
        for policy in grpc_balancer.policies():
            async with grpc_balancer.Channel("demo", registry, policy=policy) as channel:
                await connected(channel, 3)
                stub = health_pb2_grpc.HealthStub(channel)

                async def caller(stub: health_pb2_grpc.HealthStub = stub) -> None:
                    for _ in range(CALLS // CALLERS):
                        await ask(stub)

                begun = asyncio.get_running_loop().time()
                await asyncio.gather(*(caller() for _ in range(CALLERS)))
                seconds = asyncio.get_running_loop().time() - begun
                print(f"{policy:21} {tally([slow, normal, double])}  in {seconds:.1f} s")


asyncio.run(main(*sys.argv[1:]))
