"""The service config in the registry: its owner changes how a service is called, and every client follows at once.

An operator says `meshctl config set demo config.json`; here a program does the same.
"""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas

import grpc_registry
from grpc_balancer import Channel, InvalidServiceConfig

CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{"name": [{"service": "grpc.health.v1.Health"}], "timeout": "0.2s"}],
}


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "one", "two") as servers,
        Channel("demo", registry) as channel,
    ):
        await connected(channel, 2)
        stub = health_pb2_grpc.HealthStub(channel)
        for server in servers:
            server.delay = 0.5
        print(f"{channel.explain().policy}: answered by {await ask(stub)}")

        await registry.set_config("demo", json.dumps(CONFIG))
        begun = asyncio.get_running_loop().time()
        await in_force(channel, "round_robin")
        seconds = asyncio.get_running_loop().time() - begun
        print(f"{channel.explain().policy}: in force after {seconds:.1f} s")
        try:
            await ask(stub)
        except grpc.aio.AioRpcError as error:
            print("  a call that takes 0.5 s, with its timeout of 0.2 s:", error.code().name)

        try:
            await registry.set_config("demo", '{"loadBalancingConfig": [{"rond_robin": {}}]}')
        except InvalidServiceConfig as error:
            print("  a mistake is not written:", error)

        await registry.remove_config("demo")
        await in_force(channel, "least_outstanding")
        print(f"{channel.explain().policy}: answered by {await ask(stub)}")


async def in_force(channel: Channel, policy: str) -> None:
    async with asyncio.timeout(10):
        while channel.explain().policy != policy:
            await asyncio.sleep(0.005)


asyncio.run(main(*sys.argv[1:]))
