"""What the examples call: replicas of a service, in this process, that can be slow or fail.

Any generated stub would do. This one is of gRPC's own health service, since it can be installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Lifecycle, Registry, TlsFiles

REQUEST = health_pb2.HealthCheckRequest()


class Replica(health_pb2_grpc.HealthServicer):
    """One server. It takes `delay` seconds for a call, and fails it if there is a `code`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.delay = 0.001
        self.code: grpc.StatusCode | None = None
        self.caller = ""
        """The name in the certificate of who called last, if calls are secured by such."""
        self.server: grpc.aio.Server
        self.lifecycle: Lifecycle

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        self.calls += 1
        self.caller = b"".join(context.auth_context().get("x509_common_name", ())).decode()
        await asyncio.sleep(self.delay)
        if self.code is not None:
            await context.abort(self.code, f"{self.name} does not feel well")
        context.set_trailing_metadata((("replica", self.name),))
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


class Mortal:
    """Keeps its server's death to itself, as a machine that loses its power does; a real program has no use for it.

    `serving` would notice that the server was stopped, and take it out of the registry.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._mortal = server

    async def start(self) -> None:
        """Take calls."""
        await self._mortal.start()

    async def stop(self, grace: float | None) -> None:
        """Take none any more."""
        await self._mortal.stop(grace)


@asynccontextmanager
async def replicas(
    registry: Registry,
    *names: str,
    tls: TlsFiles | None = None,
    **details: Any,
) -> AsyncIterator[list[Replica]]:
    """Replicas of the service `demo` with these names, registered with these details, like `weight=300`."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_replica(registry, name, tls, details)) for name in names]


@asynccontextmanager
async def _replica(
    registry: Registry, name: str, tls: TlsFiles | None, details: dict[str, Any]
) -> AsyncIterator[Replica]:
    replica = Replica(name)
    replica.server = server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(replica, server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, tls.server_credentials()) if tls else server.add_insecure_port(address)
    instance = Instance("demo", f"127.0.0.1:{port}", id=name, **details)
    # A program with one server leaves `signals` as it is, and is drained by SIGTERM.
    serving = grpc_registry.serving(Mortal(server), registry, instance, propagation_delay=0.1, grace=1, signals=())
    async with serving as replica.lifecycle:
        await replica.lifecycle.registrations[0].wait_registered()
        yield replica


async def connected(channel: Channel, number: int) -> None:
    """Return once that many endpoints can be picked. For the examples: a call waits for the first one by itself."""
    async with asyncio.timeout(30):
        while len(channel.explain().candidates) != number:
            await asyncio.sleep(0.01)


async def ask(stub: Any, **options: Any) -> str:
    """Make one call; the name of the replica that answered."""
    call = stub.Check(REQUEST, **{"timeout": 10, **options})
    await call
    return str(dict(await call.trailing_metadata())["replica"])


def tally(servers: Sequence[Replica]) -> str:
    """How many calls each had since the last time."""
    text = ", ".join(f"{server.name} {server.calls}" for server in servers)
    for server in servers:
        server.calls = 0
    return text
