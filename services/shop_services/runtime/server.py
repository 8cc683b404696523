"""The gRPC server that every service runs in: interceptors, health, reflection and keepalive, the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client.registry import Collector

from grpc_balancer import SERVER_FAST_KEEPALIVE
from shop_services.runtime.access import Access
from shop_services.runtime.app import MAX_REQUEST, App
from shop_services.runtime.boundary import ErrorBoundary
from shop_services.runtime.decoding import Decoding
from shop_services.runtime.enduring import enduring_server
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.identity.authorization import Authorization
from shop_services.runtime.identity.rules import check_rules
from shop_services.runtime.overload import Concurrency, LimitCounts
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
    # What one peer may do, on one connection. Its messages and headers have a size (the latter's are gRPC's defaults:
    # beyond the first it may refuse them, beyond the second it does); it may have so many calls in progress, more than
    # are served at once in all; it may not ping for fun.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 2048),
    ("grpc.http2.max_ping_strikes", 2),
    # Every hour a peer shows again who it is, and that it is there: it dials anew, and its calls go on undisturbed.
    # What streams for longer than ten minutes after that is ended, and begins again.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 600_000),
)

MOST_CALLS = 4096
"""Calls in progress of all peers and kinds, also those of which nothing has been sent yet but their head."""


@dataclass(frozen=True, slots=True)
class Server:
    """A grpc.aio server with an app on it, and the health that it reports for the whole and for each gRPC service.

    It is the `Health` of `grpc_registry.serving` as well, so that the app is drained when its health is.
    """

    grpc: grpc.aio.Server
    app: App
    health: health.aio.HealthServicer
    concurrency: Concurrency

    @property
    def collectors(self) -> Sequence[Collector]:
        """The metrics of the app and of the server."""
        concurrency = self.concurrency
        return *self.app.collectors, LimitCounts(concurrency.limit, lambda: concurrency.streams)

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


class _Health(health.aio.HealthServicer):
    async def List(self, request: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Refuse. grpcio does not serve it, which it says by an exception, with a traceback in the log each time."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "List is not served: ask Check")


def interceptors(
    authority: Authority, concurrency: Concurrency | None = None, max_request: int = MAX_REQUEST
) -> list[grpc.aio.ServerInterceptor]:
    """The interceptors of every server, outermost first: the log sees the status that the boundary chose."""
    # The latter two look into the messages that the first makes.
    inner = (Decoding(max_request), Authorization(authority), Validation())
    return [concurrency or Concurrency(), Access(), ErrorBoundary(), *inner]


def make_server(app: App) -> Server:
    """A server that speaks the services of `app`, grpc.health.v1 and reflection. It is not bound, and not started.

    Raises:
        InvalidRule: what a proto says of who may call an RPC makes no sense.
    """
    check_rules(app.services)
    authority = app.authority or Authority.in_memory(app.name)
    concurrency = Concurrency()
    around = interceptors(authority, concurrency, app.max_request)
    server = enduring_server(around, OPTIONS, MOST_CALLS)
    for add in app.services.values():
        add(server)
    checks = _Health()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    add_reflection((*app.services, health.SERVICE_NAME), server)
    return Server(server, app, checks, concurrency)
