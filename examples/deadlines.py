"""Deadlines inherited: a call made while serving another gets no more time than that has left."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from replicas import REQUEST, ask, replicas

import grpc_registry
from grpc_balancer import Channel, deadlines


class Front(health_pb2_grpc.HealthServicer):
    """Asks the service behind it. It says 30 s, but its own caller may have less."""

    def __init__(self, channel: Channel) -> None:
        self._behind = health_pb2_grpc.HealthStub(channel)

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        print(f"front: {deadlines.remaining() or 0:.1f} s left")
        begun = asyncio.get_running_loop().time()
        try:
            await ask(self._behind, timeout=30)
        finally:
            print(f"front: waited for {asyncio.get_running_loop().time() - begun:.1f} s")
        return health_pb2.HealthCheckResponse()


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "stuck") as (stuck,),
        Channel("demo", registry) as channel,
    ):
        stuck.delay = 60.0
        server = grpc.aio.server(interceptors=[deadlines.DeadlineInterceptor()])
        health_pb2_grpc.add_HealthServicer_to_server(Front(channel), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as to_front:
            stub: Any = health_pb2_grpc.HealthStub(to_front)
            code = await stub.Check(REQUEST, timeout=3).code()
        await server.stop(1)  # the front ends by itself, at the same moment or a little later
        print("caller, after its 3 s:", code.name)


asyncio.run(main(*sys.argv[1:]))
