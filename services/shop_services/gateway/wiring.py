"""The only place that puts the parts of the gateway together, and the only file of it that knows the shop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from grpc_registry import Registry
from shop.cache.v1 import cache_pb2
from shop.order.v1 import order_pb2
from shop.product.v1 import inventory_pb2, product_pb2
from shop.user.v1 import user_pb2
from shop_services.gateway.app import make_app
from shop_services.gateway.counting import InstanceCounts, RequestCounts
from shop_services.gateway.openapi import Comments, make_document
from shop_services.gateway.pressure import Pressure
from shop_services.gateway.probes import Probes
from shop_services.gateway.rates import Proxies, Rates
from shop_services.gateway.rules import rules_of
from shop_services.gateway.transcoder import Limits, Transcoder
from shop_services.runtime.app import MAX_REQUEST
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.outgoing import balanced_channel
from shop_services.runtime.overload import ConcurrencyLimit
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

MAX_BODY = 2 * MAX_REQUEST
"""Bytes of JSON for all services but the cache: what they take is never longer than that as JSON, if it is text. A
megabyte of it can take half a second to read, in which nobody else is served."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway put together: what to serve, what is told when it drains and stops, and what collects its metrics."""

    app: ASGIApp
    probes: Probes
    end_streams: Callable[[], None]
    collectors: Sequence[Collector]


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[Gateway]:
    """The gateway, with a channel to each service that it finds in `registry`."""
    authority = Authority.open(settings, NAME)
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(balanced_channel(name, registry, settings, NAME))
            for name in sorted(set(SERVED_BY.values()))
        }
        limits = Limits(timeout=settings.gateway_timeout, body=settings.gateway_max_body)
        bodies = {package: MAX_BODY for package, service in SERVED_BY.items() if service != "cache"}
        transcoder = Transcoder(SERVICES, lambda service: channels[SERVED_BY[service.file.package]], limits, bodies)
        stack.callback(transcoder.close)
        comments = Comments(FileDescriptorSet.FromString((files("shop") / "descriptors.binpb").read_bytes()))
        document = make_document(SERVICES, comments, title="Shop", version=version("shop-services"))
        probes = Probes(channels)
        proxies = Proxies(settings.trusted_proxies)
        rates = Rates(settings.gateway_rate, settings.gateway_burst, proxies, guarded=_guarded())
        pressure = Pressure(ConcurrencyLimit(), rates)
        stack.callback(pressure.close)
        counts = RequestCounts()
        collectors = (counts, InstanceCounts(channels), *pressure.collectors)
        # A port of their own keeps the metrics from those that the front door is for.
        shown = None if settings.metrics_port else collectors
        app = make_app(transcoder, probes, document, counts=counts, collectors=shown, authority=authority)
        yield Gateway(pressure.around(app), probes, transcoder.end_streams, collectors)


def _guarded() -> Iterator[tuple[str, str]]:
    """The routes by which passwords and tokens are tried; and passwords hashed, which few can have done at a time."""
    service = user_pb2.DESCRIPTOR.services_by_name["UserService"]
    names = ("CreateUser", "Login", "RefreshTokens")
    return ((rule.method, rule.template.text) for rule in rules_of(service) if rule.rpc.name in names)
