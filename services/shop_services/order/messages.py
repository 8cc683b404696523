"""The messages that a step of an order causes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from shop.events.v1.events_pb2 import OrderEnded, OrderEndedItem
from shop_services.messaging.bus import Message
from shop_services.messaging.envelopes import envelope
from shop_services.order.domain import Order
from shop_services.order.saga import Command
from shop_services.runtime import money
from shop_services.runtime.ids import NewId
from shop_services.runtime.times import to_timestamp


def messages(order: Order, commands: Iterable[Command], *, new_id: NewId, time: datetime) -> list[Message]:
    """A message for each of `commands`. Handlers read the order; notifications, which cannot, are told all of it."""
    return [
        Message(
            command.topic,
            envelope(
                command.type,
                order.id,
                order.version,
                id=new_id(),
                time=time,
                body=_ended(order) if command is Command.TELL else None,
            ),
        )
        for command in commands
    ]


def _ended(order: Order) -> OrderEnded:
    items = (
        OrderEndedItem(product_name=item.product_name, quantity=item.quantity, subtotal=money.to_proto(item.subtotal))
        for item in order.items
    )
    return OrderEnded(
        user_id=order.user_id,
        status=order.status,
        reason=order.latest.reason,
        items=items,
        total=money.to_proto(order.total),
        order_time=to_timestamp(order.create_time),
    )
