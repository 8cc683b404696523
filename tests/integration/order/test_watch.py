"""An order is watched through one instance while it is changed through another."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from shop.order.v1 import order_pb2 as pb
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from tests.integration.order.shop import Shop

PENDING, CANCELLED = pb.ORDER_STATUS_PENDING, pb.ORDER_STATUS_CANCELLED

Watch = grpc.aio.UnaryStreamCall[pb.WatchOrderRequest, pb.WatchOrderResponse]


async def watch(stub: OrderServiceStub, order: pb.Order) -> Watch:
    """A watch that has told what the order is now."""
    call: Watch = stub.WatchOrder(pb.WatchOrderRequest(order_id=order.id), timeout=60)
    first = await call.read()
    assert isinstance(first, pb.WatchOrderResponse)
    assert first.order.version == order.version
    return call


async def rest(call: Watch) -> list[pb.Order]:
    """What the watch tells from now on until it ends."""
    told = []
    while isinstance(response := await call.read(), pb.WatchOrderResponse):
        told.append(response.order)
    return told


@pytest.mark.parametrize("through", ["one", "two"])
async def test_a_change_through_any_instance_is_told_and_its_end_ends_the_watch(shop: Shop, through: str) -> None:
    """The order after the change comes with its history, and then the status OK."""
    order = await shop.create()
    call = await watch(shop.one, order)
    await getattr(shop, through).CancelOrder(pb.CancelOrderRequest(order_id=order.id, reason="too slow"))
    told = await rest(call)
    assert [(o.status, o.status_reason, [t.status for t in o.history]) for o in told] == [
        (CANCELLED, "too slow", [PENDING, CANCELLED])
    ]
    assert await call.code() is grpc.StatusCode.OK


async def test_many_watch_many(shop: Shop) -> None:
    """Each watcher is told of its own order alone."""
    orders = [await shop.create(f"r{i}") for i in range(5)]
    calls = [await watch(stub, order) for order in orders for stub in (shop.one, shop.two)]
    for order in orders:
        await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.id))
    told = await asyncio.gather(*map(rest, calls))
    expected = [(order.id, CANCELLED) for order in orders for _ in range(2)]
    assert [(last.id, last.status) for [last] in told] == expected


async def test_watching_nothing_is_not_found(shop: Shop) -> None:
    """The stream ends with the status, before any message."""
    with pytest.raises(grpc.aio.AioRpcError, match="there is no order 'nothing'") as missing:
        await rest(shop.one.WatchOrder(pb.WatchOrderRequest(order_id="nothing")))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_drain_ends_a_watch_at_once_and_another_instance_goes_on(shop: Shop) -> None:
    """The drain does not wait for a watcher, who is told to watch again, and loses nothing by it."""
    order = await shop.create()
    call = await watch(shop.one, order)
    async with asyncio.timeout(30):  # less than the minute that calls in progress are given
        await shop.first.aclose()
    with pytest.raises(grpc.aio.AioRpcError, match="draining; watch again") as ended:
        await rest(call)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    call = await watch(shop.orders, order)
    await shop.two.CancelOrder(pb.CancelOrderRequest(order_id=order.id))
    assert [o.status for o in await rest(call)] == [CANCELLED]


async def test_a_watcher_who_leaves_is_forgotten(shop: Shop) -> None:
    """When the last one has gone, the instance asks the database nothing any more."""
    order = await shop.create()
    calls = [await watch(shop.one, order) for _ in range(3)]
    assert [task.get_name() for task in asyncio.all_tasks() if "watches" in task.get_name()] == ["order watches"]
    for call in calls:
        call.cancel()
    poller = next(task for task in asyncio.all_tasks() if task.get_name() == "order watches")
    await asyncio.wait_for(poller, 30)
