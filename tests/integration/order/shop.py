"""A shop in one process: real servers of real services on a memory registry, called through the balancer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from google.rpc.error_details_pb2 import BadRequest
from google.type.money_pb2 import Money
from grpc_status import rpc_status

from grpc_balancer import Channel
from grpc_registry import Instance, Registry, connect, serving
from shop.order.v1 import order_pb2 as pb
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.order.wiring import wire as wire_order
from shop_services.product.wiring import wire as wire_product
from shop_services.runtime.app import App
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.retrying import service_config
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import Settings
from shop_services.user.wiring import wire as wire_user
from tests.identity import as_operator


@asynccontextmanager
async def served(app: App, registry: Registry, grace: float = 5) -> AsyncIterator[str]:
    """Serve `app`; yields its address once it is registered. Leaving drains it, as SIGTERM does."""
    server = make_server(app)
    address = f"127.0.0.1:{server.grpc.add_insecure_port('127.0.0.1:0')}"
    await server.report(serving=True)
    instance = Instance(app.name, address)
    life = serving(server.grpc, registry, instance, health=server, propagation_delay=0, grace=grace, signals=())
    async with life as lifecycle:
        async with asyncio.timeout(60):  # a call that finds nobody registered does not wait for that
            await lifecycle.registrations[0].wait_registered()
        yield address


async def create_user(registry: Registry, name: str) -> str:
    """Open an account by RPC; returns its id."""
    request = user_pb2.CreateUserRequest(email=f"{name}@example.com", username=name, password="correct horse")
    async with Channel("user", registry) as channel:
        response: user_pb2.CreateUserResponse = await UserServiceStub(channel).CreateUser(request)
    return response.user.id


async def create_product(
    registry: Registry, settings: Settings, name: str, hundredths: int, currency: str = "EUR"
) -> str:
    """Put a product into the catalog by RPC; returns its id."""
    units, rest = divmod(hundredths, 100)
    price = Money(currency_code=currency, units=units, nanos=rest * 10_000_000)
    request = product_pb2.CreateProductRequest(sku=name, name=name, category="office", price=price)
    async with operator_channel("product", registry, settings) as channel:
        response: product_pb2.CreateProductResponse = await ProductServiceStub(channel).CreateProduct(request)
    return response.product.id


@dataclass
class Shop:
    """What a test talks to: `orders` is balanced over both instances and asks again as our services do, `one` and `two`
    are one each.

    All calls are the operator's. The user `ann` may buy `pen` (2.50) and `ink` (9.99). Closing `users`, `catalog` or
    `first` drains that server.
    """

    registry: Registry
    settings: Settings
    users: AsyncExitStack
    catalog: AsyncExitStack
    first: AsyncExitStack
    orders: OrderServiceStub
    one: OrderServiceStub
    two: OrderServiceStub
    ann: str
    pen: str
    ink: str

    def request(self, request_id: str = "r1", **items: int) -> pb.CreateOrderRequest:
        """Ann's order of `pen=3` or `ink=1`, or of one pen."""
        bought = [pb.CreateOrderItem(product_id=getattr(self, name), quantity=n) for name, n in items.items()]
        bought = bought or [pb.CreateOrderItem(product_id=self.pen, quantity=1)]
        return pb.CreateOrderRequest(request_id=request_id, user_id=self.ann, items=bought)

    async def create(self, request_id: str = "r1", **items: int) -> pb.Order:
        """What `request` asks for."""
        response: pb.CreateOrderResponse = await self.orders.CreateOrder(self.request(request_id, **items), timeout=20)
        return response.order

    async def all(self) -> list[pb.Order]:
        """Every order there is."""
        response: pb.ListOrdersResponse = await self.orders.ListOrders(pb.ListOrdersRequest(page_size=1000), timeout=20)
        return list(response.orders)


@asynccontextmanager
async def open_shop(settings: Settings) -> AsyncIterator[Shop]:
    """All servers of a shop, and what is needed to order."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect("memory://"))
        users, catalog, first, second = [await stack.enter_async_context(AsyncExitStack()) for _ in range(4)]
        for server, wire in ((users, wire_user), (catalog, wire_product)):
            app = await server.enter_async_context(wire(settings, registry))
            await server.enter_async_context(served(app, registry))
        instances = []
        for server in (first, second):
            app = await server.enter_async_context(wire_order(settings, registry))
            address = await server.enter_async_context(served(app, registry, grace=60))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            instances.append(as_operator(channel, settings))
        both = await stack.enter_async_context(
            Channel("order", registry, policy="round_robin", service_config=service_config())
        )
        yield Shop(
            registry,
            settings,
            users,
            catalog,
            first,
            orders=OrderServiceStub(as_operator(both, settings)),
            one=OrderServiceStub(instances[0]),
            two=OrderServiceStub(instances[1]),
            ann=await create_user(registry, "ann"),
            pen=await create_product(registry, settings, "Pen", 250),
            ink=await create_product(registry, settings, "Ink", 999),
        )


def violations(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that the error's BadRequest names."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads what an AioRpcError has
    assert status is not None
    for detail in status.details:
        bad = BadRequest()
        if detail.Unpack(bad):
            return [violation.field for violation in bad.field_violations]
    return []
