"""The gRPC server that every service runs in: interceptors, health, reflection and keepalive, the same for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from grpc_balancer import SERVER_FAST_KEEPALIVE
from shop_services.runtime.access import Access
from shop_services.runtime.app import App
from shop_services.runtime.boundary import ErrorBoundary
from shop_services.runtime.interceptor import CallInterceptor
from shop_services.runtime.reflection import add_reflection
from shop_services.runtime.validation import Validation

OPTIONS = (
    # Clients may ping as often as `service_channel` makes them; we notice a client that is gone within 25 s.
    *SERVER_FAST_KEEPALIVE,
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A port belongs to one process: two that share one would split its calls unevenly, unseen by the balancer.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A grpc.aio server with an app on it, and the health that it reports for the whole and for each gRPC service.

    It is the `Health` of `grpc_registry.serving` as well, so that the app is drained when its health is.
    """

    grpc: grpc.aio.Server
    app: App
    health: health.aio.HealthServicer

    async def report(self, serving: bool) -> None:
        """Report SERVING or NOT_SERVING."""
        status = health_pb2.HealthCheckResponse
        for name in ("", *self.app.services):
            await self.health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def set(self, service: str, status: Any) -> None:
        """Set the health of one gRPC service; the empty name stands for the server."""
        await self.health.set(service, status)

    async def enter_graceful_shutdown(self) -> None:
        """Report NOT_SERVING for good, and drain the app."""
        await self.health.enter_graceful_shutdown()
        await self.app.drain()


def interceptors() -> list[CallInterceptor]:
    """The interceptors of every server, outermost first: the log sees the status that the boundary chose."""
    return [Access(), ErrorBoundary(), Validation()]


def make_server(app: App) -> Server:
    """A server that speaks the services of `app`, grpc.health.v1 and reflection. It is not bound, and not started."""
    server = grpc.aio.server(interceptors=interceptors(), options=OPTIONS)
    for add in app.services.values():
        add(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    add_reflection((*app.services, health.SERVICE_NAME), server)
    return Server(server, app, checks)
