"""The whole shop in one process: every service on a real server, found through a registry, and the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from grpc_registry import Registry
from grpc_registry.lifecycle import serving
from shop_services.cache import wiring as cache
from shop_services.gateway import wiring as gateway
from shop_services.order import wiring as order
from shop_services.product import wiring as product
from shop_services.runtime.app import Wiring
from shop_services.runtime.operator import operator_token
from shop_services.runtime.serve import connect, instance_of
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import Settings
from shop_services.user import wiring as user
from tests.integration.gateway.serving import http

LEASE = 3600
"""Seconds: a cache that stands still for most of them holds its values for lost."""
WIRINGS: dict[str, Wiring] = {"user": user.wire, "product": product.wire, "order": order.wire, "cache": cache.wire}


@asynccontextmanager
async def service(name: str, settings: Settings, registry: Registry) -> AsyncIterator[None]:
    """One service, registered as long as it runs."""
    async with WIRINGS[name](settings, registry) as app:
        server = make_server(app)
        instance = instance_of(name, settings, server.grpc.add_insecure_port(settings.bind))
        await server.report(serving=True)
        async with serving(server.grpc, registry, instance, propagation_delay=0, grace=0, signals=()):
            yield


@asynccontextmanager
async def running_shop(data: Path, services: Iterable[str] = WIRINGS) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway of a new shop that has these services. It calls as an admin, and as often as it likes."""
    memory = f"memory://{data.name}"
    settings = Settings(
        registry_url=memory, nats_url=memory, data=data, gateway_rate=0, gateway_timeout=30, lease_ttl=LEASE
    )
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect(settings, "gateway"))
        for name in services:
            await stack.enter_async_context(service(name, settings, registry))
        front = await stack.enter_async_context(gateway.wire(settings, registry))
        _, client = await stack.enter_async_context(http(front.app))
        client.headers["authorization"] = f"Bearer {operator_token(settings)}"
        yield client
