"""Discovery and drain: servers come and go under a channel that is in use, and no call fails."""

from __future__ import annotations

import asyncio
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc
from replicas import Replica, ask, connected

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Registry


async def serve(registry: Registry, name: str, gone: asyncio.Event) -> None:
    """What a server's program does. With `signals` left as they are, SIGTERM and Ctrl-C begin the drain."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Replica(name), server)
    me = Instance("demo", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", id=name)
    async with grpc_registry.serving(server, registry, me, propagation_delay=0.2, signals=()):
        await gone.wait()
    # Here the instance was `draining` for 0.2 s, finished its calls, left the registry, and has stopped.


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, asyncio.TaskGroup() as servers:
        orders = {name: asyncio.Event() for name in ("one", "two", "three")}
        for name in ("one", "two"):
            servers.create_task(serve(registry, name, orders[name]))

        async with Channel("demo", registry) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            await connected(channel, 2)
            print("answered by:", sorted({await ask(stub) for _ in range(50)}))

            calling = asyncio.create_task(call_for_a_second(stub))
            servers.create_task(serve(registry, "three", orders["three"]))
            await connected(channel, 3)
            orders["one"].set()
            await connected(channel, 2)
            made = await calling
            print(f"while three came and one drained: {made} calls, 0 failed")
            print("answered by:", sorted({await ask(stub) for _ in range(50)}))
        for order in orders.values():
            order.set()


async def call_for_a_second(stub: health_pb2_grpc.HealthStub) -> int:
    """How many calls were made. One that fails would raise."""
    made, end = 0, asyncio.get_running_loop().time() + 1
    while asyncio.get_running_loop().time() < end:
        await ask(stub)
        made += 1
    return made


asyncio.run(main(*sys.argv[1:]))
