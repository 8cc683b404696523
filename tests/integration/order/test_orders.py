"""Orders over the wire: two instances on a real database, which ask real users and products through the balancer."""

from __future__ import annotations

import asyncio
from itertools import cycle, islice

import grpc
import pytest

from shop.order.v1 import order_pb2 as pb
from tests.integration.order.shop import Shop

PENDING, CANCELLED = pb.ORDER_STATUS_PENDING, pb.ORDER_STATUS_CANCELLED


async def test_an_order_is_recorded_at_the_prices_of_the_catalog(shop: Shop) -> None:
    """Names, prices, subtotals and the total are exact, in the order of the request."""
    order = await shop.create(pen=3, ink=1)
    assert (order.user_id, order.status, order.version, order.status_reason) == (shop.ann, PENDING, 1, "")
    assert [(i.product_id, i.product_name, i.quantity) for i in order.items] == [
        (shop.pen, "Pen", 3),
        (shop.ink, "Ink", 1),
    ]
    amounts = [order.items[0].unit_price, order.items[0].subtotal, order.total]
    assert [(m.currency_code, m.units, m.nanos) for m in amounts] == [
        ("EUR", 2, 500_000_000),
        ("EUR", 7, 500_000_000),
        ("EUR", 17, 490_000_000),
    ]
    assert order.create_time == order.update_time


async def test_an_order_is_found_with_its_history_and_listed_without(shop: Shop) -> None:
    """What one instance records, the other knows; answers to changes have no history either."""
    order = await shop.create()
    found = (await shop.two.GetOrder(pb.GetOrderRequest(order_id=order.id))).order
    assert [(t.version, t.status, t.time) for t in found.history] == [(1, PENDING, order.create_time)]
    del found.history[:]
    assert found == order
    assert await shop.all() == [order]


async def test_fifty_requests_with_one_id_over_two_instances_make_one_order(shop: Shop) -> None:
    """All fifty callers get the same order, also if the disk is slow and some must ask again."""
    answers = await asyncio.gather(*(shop.orders.CreateOrder(shop.request(pen=3), timeout=30) for _ in range(50)))
    assert {answer.order.id for answer in answers} == {answers[0].order.id}
    assert await shop.all() == [answers[0].order]


async def test_a_repeated_request_gets_the_first_answer(shop: Shop) -> None:
    """Also when the order is no longer what it was."""
    order = await shop.create()
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.id))
    assert await shop.create() == order


async def test_pages_are_newest_first_and_filtered(shop: Shop) -> None:
    """Pages that go through both instances show every order once."""
    made = [await shop.create(f"r{i}") for i in range(5)]
    await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=made[2].id))
    seen: list[str] = []
    request = pb.ListOrdersRequest(user_id=shop.ann, status=PENDING, page_size=3)
    for _ in range(2):
        page = await shop.orders.ListOrders(request)
        seen += [order.id for order in page.orders]
        request.page_token = page.next_page_token
    assert seen == [made[i].id for i in (4, 3, 1, 0)]
    assert request.page_token == ""


async def test_a_cancelled_order_says_so(shop: Shop) -> None:
    """Its status, reason, version, time and etag change; another cancellation is refused, the same one repeated."""
    order = await shop.create()
    cancel = pb.CancelOrderRequest(order_id=order.id, reason="too slow", etag=order.etag, request_id="c1")
    cancelled = (await shop.one.CancelOrder(cancel)).order
    assert (cancelled.status, cancelled.status_reason, cancelled.version) == (CANCELLED, "too slow", 2)
    assert cancelled.etag != order.etag
    assert cancelled.update_time.ToNanoseconds() > order.update_time.ToNanoseconds()
    assert (await shop.two.CancelOrder(cancel)).order == cancelled
    with pytest.raises(grpc.aio.AioRpcError, match="is CANCELLED already") as refused:
        await shop.two.CancelOrder(pb.CancelOrderRequest(order_id=order.id))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_of_many_cancellations_over_two_instances_one_wins(shop: Shop) -> None:
    """The others are told that the order has ended, or to try again; there is one transition."""
    order = await shop.create()
    stubs = islice(cycle([shop.one, shop.two]), 20)
    cancel = pb.CancelOrderRequest(order_id=order.id)
    results = await asyncio.gather(*(stub.CancelOrder(cancel, timeout=30) for stub in stubs), return_exceptions=True)
    assert sum(isinstance(result, pb.CancelOrderResponse) for result in results) == 1
    codes = {result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)}
    assert codes <= {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE}
    found = (await shop.one.GetOrder(pb.GetOrderRequest(order_id=order.id))).order
    assert [t.status for t in found.history] == [PENDING, CANCELLED]
