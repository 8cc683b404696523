"""shop.order.v1.OrderService: protobuf to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from shop.order.v1 import order_pb2 as pb
from shop.order.v1 import order_pb2_grpc
from shop_services.order.domain import KIND, Item, Line, Order, Transition
from shop_services.order.progress import Moved
from shop_services.order.saga import Status
from shop_services.order.usecases import Orders
from shop_services.runtime import money
from shop_services.runtime.etags import etag
from shop_services.runtime.identity.caller import customer_id
from shop_services.runtime.interceptor import Context
from shop_services.runtime.paging import page_size
from shop_services.runtime.times import to_timestamp
from shop_services.storage import Replies

_STATUSES = {status: pb.OrderStatus.Value(f"ORDER_STATUS_{status}") for status in Status}
_FROM_PROTO = {number: status for status, number in _STATUSES.items()}


class OrderServicer(order_pb2_grpc.OrderServiceServicer):
    """Serves `Orders`."""

    def __init__(self, orders: Orders, replies: Replies) -> None:
        self._orders = orders
        self._replies = replies

    # Methods are named as the RPCs that they serve.
    # ruff: noqa: N802
    async def CreateOrder(self, request: pb.CreateOrderRequest, context: Context) -> pb.CreateOrderResponse:
        lines = [Line(item.product_id, item.quantity) for item in request.items]
        order = await self._orders.create(request.request_id, request.user_id, lines, request.payment_method)
        return pb.CreateOrderResponse(order=to_proto(order))

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderResponse:
        return pb.GetOrderResponse(order=with_history(await self._orders.get(request.order_id, customer_id())))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        status = _FROM_PROTO.get(request.status)
        page = await self._orders.page(request.user_id, status, page_size(request.page_size), request.page_token)
        return pb.ListOrdersResponse(orders=map(to_proto, page.items), next_page_token=page.next_token)

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        mutation = self._replies.mutation(request, pb.CancelOrderResponse, _cancelled)
        return await self._orders.cancel(request.order_id, request.reason, request.etag, mutation, customer_id())

    async def WatchOrder(
        self, request: pb.WatchOrderRequest, context: Context
    ) -> AsyncGenerator[pb.WatchOrderResponse, None]:
        async with aclosing(self._orders.watch(request.order_id, customer_id())) as states:
            async for order in states:
                yield pb.WatchOrderResponse(order=with_history(order))


def to_proto(order: Order) -> pb.Order:
    """`order` as the API shows it, without its history."""
    return pb.Order(
        id=order.id,
        user_id=order.user_id,
        items=map(_item, order.items),
        total=money.to_proto(order.total),
        status=_STATUSES[order.status],
        status_reason=order.latest.reason,
        version=order.version,
        create_time=to_timestamp(order.create_time),
        update_time=to_timestamp(order.latest.time),
        etag=etag(KIND, order.id, order.version),
        payment_method=order.payment_method,
    )


def with_history(order: Order) -> pb.Order:
    """`order` as the API shows it where it is asked for alone."""
    message = to_proto(order)
    message.history.extend(map(_transition, order.history))
    return message


def _cancelled(moved: Moved) -> pb.CancelOrderResponse:
    return pb.CancelOrderResponse(order=to_proto(moved.order))


def _item(item: Item) -> pb.OrderItem:
    return pb.OrderItem(
        product_id=item.product_id,
        quantity=item.quantity,
        product_name=item.product_name,
        unit_price=money.to_proto(item.unit_price),
        subtotal=money.to_proto(item.subtotal),
    )


def _transition(transition: Transition) -> pb.OrderTransition:
    return pb.OrderTransition(
        version=transition.version,
        status=_STATUSES[transition.status],
        reason=transition.reason,
        time=to_timestamp(transition.time),
    )
