"""From CreateOrder to its end, over real services, workers, databases and brokers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest

from shop.order.v1 import order_pb2 as pb
from shop_services.payment.cards import SLOW
from shop_services.payment.simulation import Simulation
from shop_services.runtime.settings import Settings
from tests.integration.order.checkout import Checkout, open_checkout
from tests.servers import Nats

FULFILLED, FAILED, CANCELLED = pb.ORDER_STATUS_FULFILLED, pb.ORDER_STATUS_FAILED, pb.ORDER_STATUS_CANCELLED
PATH = [pb.ORDER_STATUS_PENDING, pb.ORDER_STATUS_PROCESSING, pb.ORDER_STATUS_PAID, FULFILLED]


@pytest.fixture
async def checkout(settings: Settings, nats: Nats) -> AsyncIterator[Checkout]:
    """Over a broker of its own."""
    async with open_checkout(replace(settings, nats_url=nats.url)) as opened:
        yield opened


async def test_an_order_is_fulfilled_and_seen_step_by_step(checkout: Checkout) -> None:
    """The watch tells every status, the card is charged the total, and the stock is sold."""
    await checkout.fill(checkout.shop.pen, 5)
    order = await checkout.buy("r1", pen=3)
    ended = await checkout.ended(order.id)
    assert [transition.status for transition in ended.history] == PATH
    assert await checkout.net(order.id) == 750
    assert await checkout.counts(checkout.shop.pen) == (2, 0, 3)


async def settled(checkout: Checkout, product_id: str, counts: tuple[int, int, int]) -> None:
    """Return when the stock of a product is as it should be: compensations follow an order's end."""
    async with asyncio.timeout(30):
        while await checkout.counts(product_id) != counts:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.05)


async def test_a_refused_card_and_a_cancellation_give_the_stock_back(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both orders end with a reason, and are charged nothing in the end."""
    asked, cancelled, before = asyncio.Event(), asyncio.Event(), Simulation.before

    async def after_the_cancellation(self: Simulation, method: str = "") -> None:
        if method == SLOW:
            asked.set()
            await cancelled.wait()
        await before(self)

    monkeypatch.setattr(Simulation, "before", after_the_cancellation)
    await checkout.fill(checkout.shop.pen, 5)
    refused = await checkout.buy("r1", pen=3, method="pm_card_chargeDeclinedInsufficientFunds")
    ended = await checkout.ended(refused.id)
    assert (ended.status, ended.status_reason) == (FAILED, "payment refused: insufficient_funds")
    slow = await checkout.buy("r2", pen=2, method=SLOW)
    async with asyncio.timeout(30):
        await asked.wait()
    cancel = pb.CancelOrderRequest(order_id=slow.id, reason="too slow")
    await checkout.shop.orders.CancelOrder(cancel, timeout=20)
    cancelled.set()
    ended = await checkout.ended(slow.id)
    assert (ended.status, ended.status_reason) == (CANCELLED, "too slow")
    await settled(checkout, checkout.shop.pen, (5, 0, 0))
    assert await checkout.net(refused.id) == 0


async def test_the_last_unit_is_sold_once(checkout: Checkout) -> None:
    """Of a hundred orders at once one is fulfilled and charged; all others fail for want of stock."""
    await checkout.fill(checkout.shop.ink, 1)
    orders = await asyncio.gather(*(checkout.buy(f"r{i}", ink=1) for i in range(100)))
    ended = await asyncio.gather(*(checkout.ended(order.id) for order in orders))
    assert Counter(order.status for order in ended) == {FULFILLED: 1, FAILED: 99}
    [sold] = [order for order in ended if order.status == FULFILLED]
    assert all("asked 1, left 0" in order.status_reason for order in ended if order is not sold)
    assert await checkout.counts(checkout.shop.ink) == (0, 0, 1)
    assert await checkout.net(sold.id) == 999
    with pytest.raises(grpc.aio.AioRpcError, match="is FULFILLED already"):
        await checkout.shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=sold.id))
