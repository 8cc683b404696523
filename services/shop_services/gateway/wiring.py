"""The only place that puts the parts of the gateway together, and the only file of it that knows the shop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from starlette.types import ASGIApp

from grpc_registry import Registry
from shop.cache.v1 import cache_pb2
from shop.order.v1 import order_pb2
from shop.product.v1 import inventory_pb2, product_pb2
from shop.user.v1 import user_pb2
from shop_services.gateway.app import make_app
from shop_services.gateway.openapi import Comments, make_document
from shop_services.gateway.probes import Probes
from shop_services.gateway.transcoder import Limits, Transcoder
from shop_services.runtime.outgoing import balanced_channel
from shop_services.runtime.settings import Settings

NAME = "gateway"

SERVED_BY: Mapping[str, str] = {
    "shop.user.v1": "user",
    "shop.product.v1": "product",
    "shop.order.v1": "order",
    "shop.cache.v1": "cache",
}
"""The service in the registry whose instances speak the gRPC services of each proto package."""

_FILES = (user_pb2, product_pb2, inventory_pb2, order_pb2, cache_pb2)
SERVICES = tuple(service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values())
"""The gRPC services behind the gateway, in the order of the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway put together: what to serve, and what is told when it drains."""

    app: ASGIApp
    probes: Probes


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[Gateway]:
    """The gateway, with a channel to each service that it finds in `registry`."""
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(balanced_channel(name, registry, settings.zone))
            for name in sorted(set(SERVED_BY.values()))
        }
        limits = Limits(timeout=settings.gateway_timeout, body=settings.gateway_max_body)
        transcoder = Transcoder(SERVICES, lambda service: channels[SERVED_BY[service.file.package]], limits)
        comments = Comments(FileDescriptorSet.FromString((files("shop") / "descriptors.binpb").read_bytes()))
        document = make_document(SERVICES, comments, title="Shop", version=version("shop-services"))
        probes = Probes(channels)
        yield Gateway(make_app(transcoder, probes, document), probes)
