"""The shop as a line: orders enter by CreateOrder, and have left when they are FULFILLED.

How many are under way, and when each was FULFILLED, is read from the order database, and the latter only afterwards.
A watch or a call for each order would be work for the shop that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from uuid import uuid4

import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

import grpc_registry
from benchmarks.orders.line import Passage
from benchmarks.orders.shop import Shop
from shop.order.v1 import order_pb2
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.payment.v1 import payment_pb2
from shop.payment.v1.payment_pb2_grpc import PaymentSimulatorServiceStub
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.order import storage
from shop_services.order.saga import Status
from shop_services.runtime.operator import operator_channel
from shop_services.storage import Database

PRODUCTS = 24
_STOCK = 1_000_000
_SECONDS = 30.0
"""How long a call may take: so long that a slow one is a measurement and not an error."""

_waiting = sa.select(sa.func.count()).where(
    storage.orders.c.status.in_([Status.PENDING, Status.PROCESSING, Status.PAID])
)
_ended = sa.select(storage.transitions.c.order_id, storage.transitions.c.status, storage.transitions.c.time)
_final = storage.transitions.c.status.in_([Status.FULFILLED, Status.FAILED, Status.CANCELLED])


class Checkout:
    """A `Line`. Each order is for two of `products`, drawn at random."""

    def __init__(
        self,
        orders: OrderServiceStub,
        payments: PaymentSimulatorServiceStub,
        database: Database,
        user: str,
        products: Sequence[str],
        rng: Random,
    ) -> None:
        self._orders = orders
        self._payments = payments
        self._database = database
        self._user = user
        self._products = products
        self._rng = rng
        self._due: dict[str, float] = {}

    async def enter(self, due: float) -> None:
        items = [
            order_pb2.CreateOrderItem(product_id=product, quantity=1) for product in self._rng.sample(self._products, 2)
        ]
        request = order_pb2.CreateOrderRequest(request_id=uuid4().hex, user_id=self._user, items=items)
        response = await self._orders.CreateOrder(request, timeout=_SECONDS)
        self._due[response.order.id] = due

    async def waiting(self) -> int:
        async with self._database.reading() as connection:
            return (await connection.execute(_waiting)).scalar_one()

    async def passages(self) -> list[Passage]:
        due, self._due = self._due, {}
        if not due:
            return []
        async with self._database.reading() as connection:
            query = _ended.where(_final, storage.transitions.c.order_id >= min(due))
            ended = {row.order_id: row for row in await connection.execute(query)}
        if lost := [order for order in due if order not in ended or ended[order].status != Status.FULFILLED]:
            raise RuntimeError(f"{len(lost)} of {len(due)} orders were not fulfilled, such as {lost[0]}")
        return [Passage(moment, ended[order].time.timestamp()) for order, moment in due.items()]

    async def slow_payments(self, seconds: float) -> None:
        """Let every call to the payment provider take at least so long from now on."""
        delay = Duration()
        delay.FromTimedelta(timedelta(seconds=seconds))
        faults = payment_pb2.Faults(delay=delay)
        await self._payments.SetFaults(payment_pb2.SetFaultsRequest(faults=faults), timeout=_SECONDS)


@contextlib.asynccontextmanager
async def checkout(shop: Shop, rng: Random) -> AsyncIterator[Checkout]:
    """The line through a shop that runs, with a user, and enough of every product."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(grpc_registry.connect(shop.settings.registry_url))
        user, product, order, payment = [
            await stack.enter_async_context(operator_channel(service, registry, shop.settings))
            for service in ("user", "product", "order", "payment")
        ]
        orders = Database(shop.settings.database("order"), service="bench", pool=1)
        database = await stack.enter_async_context(orders)
        email = f"{uuid4().hex}@shop.example"
        ann = user_pb2.CreateUserRequest(email=email, username="ann", password=uuid4().hex, display_name="Ann")
        created = await UserServiceStub(user).CreateUser(ann, timeout=_SECONDS, wait_for_ready=True)
        catalog = ProductServiceStub(product)
        products = await asyncio.gather(*(_create(catalog, number) for number in range(PRODUCTS)))
        payments = PaymentSimulatorServiceStub(payment)
        yield Checkout(OrderServiceStub(order), payments, database, created.user.id, products, rng)


async def _create(catalog: ProductServiceStub, number: int) -> str:
    price = Money(currency_code="EUR", units=10 + number)
    request = product_pb2.CreateProductRequest(
        request_id=uuid4().hex,
        sku=f"BENCH-{number}",
        name=f"Number {number}",
        category="numbers",
        price=price,
        initial_stock=_STOCK,
    )
    response = await catalog.CreateProduct(request, timeout=_SECONDS, wait_for_ready=True)
    return response.product.id
