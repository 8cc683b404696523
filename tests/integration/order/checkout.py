"""A whole checkout in one process: two instances of the order service, the workers of all topics, and all they ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from shop.order.v1 import order_pb2 as pb
from shop.payment.v1 import payment_pb2
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop.product.v1 import inventory_pb2
from shop.product.v1.inventory_pb2_grpc import InventoryServiceStub
from shop_services.order.wiring import CONCURRENCY, wire_worker
from shop_services.payment.wiring import wire as wire_payment
from shop_services.runtime.app import Wiring
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.settings import Settings
from tests.integration.order.shop import Shop, open_shop, served


@dataclass
class Checkout:
    """`shop` takes orders; `stock` and `payments` tell what became of them."""

    shop: Shop
    stock: InventoryServiceStub
    payments: PaymentServiceStub

    async def fill(self, product_id: str, count: int) -> None:
        await self.stock.AdjustStock(inventory_pb2.AdjustStockRequest(product_id=product_id, delta=count))

    async def counts(self, product_id: str) -> tuple[int, int, int]:
        """What is available, reserved and committed of a product."""
        response = await self.stock.GetStock(inventory_pb2.GetStockRequest(product_id=product_id))
        return response.stock.available, response.stock.reserved, response.stock.committed

    async def buy(self, request_id: str, *, method: str = "", **items: int) -> pb.Order:
        request = self.shop.request(request_id, **items)
        request.payment_method = method
        response: pb.CreateOrderResponse = await self.shop.orders.CreateOrder(request, timeout=60)
        return response.order

    async def ended(self, order_id: str) -> pb.Order:
        """The order when it has ended, told by a watch."""
        last = pb.Order()
        async for response in self.shop.orders.WatchOrder(pb.WatchOrderRequest(order_id=order_id), timeout=180):
            last = response.order
        return last

    async def net(self, order_id: str) -> int:
        """The net charge of an order in hundredths."""
        payment = (await self.payments.GetPayment(payment_pb2.GetPaymentRequest(key=order_id))).payment
        return int(payment.net_charge.units * 100 + payment.net_charge.nanos // 10_000_000)


@asynccontextmanager
async def open_checkout(settings: Settings) -> AsyncIterator[Checkout]:
    """All of it. Orders that stand still for a second are moved on."""
    settings = replace(settings, order_stuck=1.0)
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(open_shop(settings))
        workers: list[Wiring] = [partial(wire_worker, topic) for topic in CONCURRENCY]
        for wire in (wire_payment, *workers):
            app = await stack.enter_async_context(wire(settings, shop.registry))
            await stack.enter_async_context(served(app, shop.registry))
        product = await stack.enter_async_context(operator_channel("product", shop.registry, settings))
        payment = await stack.enter_async_context(operator_channel("payment", shop.registry, settings))
        yield Checkout(shop, InventoryServiceStub(product), PaymentServiceStub(payment))
