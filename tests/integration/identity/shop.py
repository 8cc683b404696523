"""All services of the shop on real servers in one process, with keys in files, and the gateway on real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import httpx
from argon2 import PasswordHasher
from google.type.money_pb2 import Money

from grpc_registry.lifecycle import serving
from shop.order.v1 import order_pb2
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.payment.v1 import payment_pb2
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.cache import wiring as cache
from shop_services.gateway import wiring as gateway
from shop_services.order import wiring as order
from shop_services.payment import wiring as payment
from shop_services.product import wiring as product
from shop_services.runtime.app import Wiring
from shop_services.runtime.identity.authority import Authority, bearer
from shop_services.runtime.identity.caller import Role
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.serve import connect, instance_of
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import Settings
from shop_services.user import passwords
from shop_services.user import wiring as user
from tests.integration.gateway.serving import DEADLINE, http

WIRINGS: Mapping[str, Wiring] = {
    "user": user.wire,
    "product": product.wire,
    "order": order.wire,
    "cache": cache.wire,
    "payment": payment.wire,
}
SERVED_BY = {**gateway.SERVED_BY, "shop.payment.v1": "payment"}
SERVICES = (*gateway.SERVICES, *payment_pb2.DESCRIPTOR.services_by_name.values())
"""All gRPC services of the shop."""

PASSWORD = "correct horse"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

Metadata = Sequence[tuple[str, str]]


@dataclass
class Shop:
    """What a test talks to: `channels` and `authorities` by the name of the service, and `http`, the gateway.

    The customers `ann` and `bob` have accounts; `pens` is a product.
    """

    settings: Settings
    channels: Mapping[str, grpc.aio.Channel]
    http: httpx.AsyncClient
    ann: str = ""
    bob: str = ""
    pens: str = ""

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self.users = UserServiceStub(self.channels["user"])
        self.products = ProductServiceStub(self.channels["product"])
        self.orders = OrderServiceStub(self.channels["order"])
        self.issuer = Issuer.open(self.settings)
        self.operator = operator_credentials(self.settings)

    def new_name(self) -> str:
        """A name that nothing has yet."""
        return f"name-{next(self._numbers)}"

    def person(self, user_id: str, role: Role = Role.CUSTOMER) -> Metadata:
        """The metadata of calls by a person."""
        return bearer(self.issuer.access(user_id, role).token)

    def service(self, name: str, audience: str) -> Metadata:
        """The metadata of calls by the service `name` to the service `audience`."""
        return tuple(Authority.open(self.settings, name).credentials_for(audience)())

    async def new_user(self) -> str:
        name = self.new_name()
        request = user_pb2.CreateUserRequest(email=f"{name}@shop.example", username=name, password=PASSWORD)
        return (await self.users.CreateUser(request)).user.id

    async def new_product(self) -> str:
        name = self.new_name()
        price = Money(currency_code="EUR", units=2)
        request = product_pb2.CreateProductRequest(
            sku=name, name=name, category="office", price=price, initial_stock=1_000_000
        )
        return (await self.products.CreateProduct(request, metadata=self.operator())).product.id

    async def new_order(self, owner: str) -> order_pb2.Order:
        """An order of one pen by `owner`."""
        items = [order_pb2.CreateOrderItem(product_id=self.pens, quantity=1)]
        request = order_pb2.CreateOrderRequest(request_id=self.new_name(), user_id=owner, items=items)
        response: order_pb2.CreateOrderResponse = await self.orders.CreateOrder(request, metadata=self.person(owner))
        return response.order


@asynccontextmanager
async def open_shop(data: Path, **options: Any) -> AsyncIterator[Shop]:
    """All of it, with its data in the directory `data`. It limits nobody's rate."""
    settings = Settings(registry_url=f"memory://{data.name}", nats_url=f"memory://{data.name}", data=data)
    settings = replace(settings, gateway_rate=0, propagation=0, grace=0, **options)
    async with AsyncExitStack() as stack:
        # How long a password takes to check is not what is tested here, and hundreds are.
        stack.enter_context(patch.object(passwords, "PasswordHasher", lambda: CHEAP))
        registry = await stack.enter_async_context(connect(settings, "gateway"))
        channels = {}
        for name, wire in WIRINGS.items():
            app = await stack.enter_async_context(wire(settings, registry))
            server = make_server(app)
            port = server.grpc.add_insecure_port("127.0.0.1:0")
            await server.report(serving=True)
            instance = instance_of(name, settings, port)
            await stack.enter_async_context(
                serving(server.grpc, registry, instance, health=server, propagation_delay=0, grace=0, signals=())
            )
            channels[name] = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        front = await stack.enter_async_context(gateway.wire(settings, registry))
        _, client = await stack.enter_async_context(http(front.app))
        await until_ready(client)
        shop = Shop(settings, channels, client)
        shop.ann, shop.bob = await shop.new_user(), await shop.new_user()
        shop.pens = await shop.new_product()
        await shop.new_product()
        yield shop


async def until_ready(client: httpx.AsyncClient) -> None:
    """Return when every service can be called through the gateway."""
    async with asyncio.timeout(DEADLINE):
        while (await client.get("/readyz")).status_code != 200:
            pass
