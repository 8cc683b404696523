"""The chapters about orders: one that is fulfilled, one whose card is refused, one that is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

from shop.order.v1 import order_pb2
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop_services.demo.evidence import Stock, charged, mailed, stock, stock_becomes
from shop_services.demo.shopping import amount, count, describe, message, price
from shop_services.demo.stage import JsonObject, Stage
from shop_services.demo.story import Failed, check, stopwatch

QUANTITY = 2
SLOW_CARD = "pm_sim_slow"
"""A card of the simulated provider that takes two seconds to authorize: long enough to do something meanwhile."""

_STREAM_SECONDS = 40.0
_FINAL = ("FULFILLED", "FAILED", "CANCELLED")


async def order(stage: Stage) -> None:
    """Ada orders two. The order goes its way, the stock is committed, her card is charged once, a receipt comes.

    She is sent the same order again when she repeats the request, and pays the catalog's price.
    """
    before = await stock(stage)
    placed = await place(stage, "first")
    check(amount(placed["total"]) == QUANTITY * amount(stage.product["price"]), "the total is not twice the price")
    await follow(stage, placed, "PENDING", "PROCESSING", "PAID", "FULFILLED")
    again = await place(stage, "first", outcome="again: ")
    check(again["id"] == placed["id"], "the repeated request made a second order")
    path = f"/v1/orders?userId={stage.user['id']}"
    listed = await stage.http("GET", path, outcome=lambda body: f"{count(body, 'orders')} order")
    check(count(listed, "orders") == 1, "Ada has not exactly one order")
    await stock_becomes(stage, sold(before))
    await charged(stage, placed["id"], price(placed["total"]))
    await mailed(stage, placed["id"], lines=7)


async def refused_card(stage: Stage) -> None:
    """Her card is refused after the stock was reserved: the order fails, and everything is as it was before."""
    before = await stock(stage)
    placed = await place(stage, "refused", "pm_card_chargeDeclinedInsufficientFunds")
    ended = await follow(stage, placed, "PENDING", "PROCESSING", "FAILED")
    check("insufficient_funds" in ended.status_reason, f"the reason is another: {ended.status_reason}")
    await stock_becomes(stage, before)
    await charged(stage, placed["id"], "")
    await mailed(stage, placed["id"], lines=3)


async def cancel(stage: Stage) -> None:
    """Ada changes her mind while a slow card is being charged; a second cancellation is refused."""
    before = await stock(stage)
    placed = await place(stage, "cancelled", SLOW_CARD)
    await watch(stage, placed, {"PROCESSING"})
    path, reason = f"/v1/orders/{placed['id']}", {"reason": "found it in the attic"}
    await stage.http("POST", f"{path}:cancel", reason, outcome=lambda body: describe(body["order"]))
    await follow(stage, placed, "PENDING", "PROCESSING", "CANCELLED")
    await stage.http("POST", f"{path}:cancel", reason, status=400, outcome=message)
    await stock_becomes(stage, before)
    await charged(stage, placed["id"], "")
    await mailed(stage, placed["id"])


async def place(stage: Stage, name: str, card: str = "", *, outcome: str = "") -> JsonObject:
    """Order two of Ada's product; with the same `name` again it is the same request."""
    wanted = {
        "requestId": f"{name}-{stage.token}",
        "userId": stage.user["id"],
        "items": [{"productId": stage.product["id"], "quantity": str(QUANTITY)}],
        "paymentMethod": card,
    }
    placed = await stage.http("POST", "/v1/orders", wanted, outcome=lambda body: outcome + describe(body["order"]))
    return dict(placed["order"])


async def follow(stage: Stage, placed: JsonObject, *expected: str) -> order_pb2.Order:
    """Watch an order to its end, tell its history, and return it. Its statuses must be those expected."""
    ended = await watch(stage, placed, _FINAL)
    began = ended.history[0].time.ToMilliseconds()
    steps = [(_name(step.status), step.time.ToMilliseconds() - began) for step in ended.history]
    stage.story.note("  " + " → ".join(f"{status} +{milliseconds} ms" for status, milliseconds in steps))
    check(tuple(status for status, _ in steps) == expected, f"the history is not {' → '.join(expected)}")
    return ended


async def watch(stage: Stage, placed: JsonObject, until: Collection[str]) -> order_pb2.Order:
    """Tell each status of an order as WatchOrder shows it over gRPC, up to one of `until`; returns the order then."""
    request = order_pb2.WatchOrderRequest(order_id=placed["id"])
    async with stage.as_ada("order") as channel, asyncio.timeout(_STREAM_SECONDS):
        with stopwatch() as elapsed:
            versions = OrderServiceStub(channel).WatchOrder(request)
            async for version in versions:
                order: order_pb2.Order = version.order
                reason = f": {order.status_reason}" if order.status_reason else ""
                stage.story.did("WatchOrder", f"{_name(order.status)}{reason}", elapsed())
                if _name(order.status) in until:
                    versions.cancel()
                    return order
    raise Failed(f"the order's stream ended before it was {' or '.join(until)}")


def sold(before: Stock) -> Stock:
    """The stock after an order of two was fulfilled."""
    return replace(before, available=before.available - QUANTITY, committed=before.committed + QUANTITY)


def _name(status: order_pb2.OrderStatus.ValueType) -> str:
    return order_pb2.OrderStatus.Name(status).removeprefix("ORDER_STATUS_")
