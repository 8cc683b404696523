"""Health: a replica that says NOT_SERVING gets no calls until it serves again, though it is still connected."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio
from replicas import connected

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance

SERVICE_CONFIG = {"healthCheckConfig": {"serviceName": "shop"}}  # or by `meshctl config set`, without a restart
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, AsyncExitStack() as stack:
        healths = {"one": aio.HealthServicer(), "two": aio.HealthServicer()}
        for name, health in healths.items():
            await health.set("shop", SERVING)
            server = grpc.aio.server()
            health_pb2_grpc.add_HealthServicer_to_server(health, server)
            instance = Instance("demo", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", id=name)
            serving = grpc_registry.serving(server, registry, instance, propagation_delay=0.1, grace=1, signals=())
            await stack.enter_async_context(serving)

        async with Channel("demo", registry, service_config=SERVICE_CONFIG) as channel:
            await connected(channel, 2)
            await healths["two"].set("shop", NOT_SERVING)
            await connected(channel, 1)
            print(channel.explain())
            await healths["two"].set("shop", SERVING)
            await connected(channel, 2)
            print(channel.explain())


asyncio.run(main(*sys.argv[1:]))
