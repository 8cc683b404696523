"""What `order.ended` says, read from its message."""

from __future__ import annotations

import re
from datetime import UTC

from google.protobuf.message import DecodeError

from shop.events.v1.events_pb2 import Envelope, OrderEnded
from shop_services.messaging.bus import Reject
from shop_services.notification.domain import Ending, Line, Outcome
from shop_services.runtime import money
from shop_services.runtime.errors import InvalidArgument

ORDER_ENDED = "order.ended"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # an order's becomes a part of a header
_LONGEST_ID = 64


def ending_of(envelope: Envelope) -> Ending:
    """The order that the message is about.

    Raises:
        Reject: it is no `order.ended`, or says what cannot be understood. It names what.
    """
    if envelope.type != ORDER_ENDED:
        raise Reject(f"type {envelope.type!r} is not one for this topic, which has {ORDER_ENDED!r}")
    body = OrderEnded()
    try:
        if not envelope.body.Unpack(body):
            raise Reject(f"the body is no OrderEnded but {envelope.body.type_url!r}")
    except DecodeError:
        raise Reject("the body cannot be read") from None
    if not 1 <= len(envelope.id) <= _LONGEST_ID:
        raise Reject(f"id {envelope.id[:100]!r} is none")
    if not _ID.fullmatch(envelope.order_id):
        raise Reject(f"order_id {envelope.order_id[:100]!r} is none")
    if not _ID.fullmatch(body.user_id):
        raise Reject(f"user_id {body.user_id[:100]!r} is none")
    try:
        outcome = Outcome(body.status)
    except ValueError:
        raise Reject(f"status {body.status[:100]!r} is not the end of an order") from None
    try:
        lines = tuple(
            Line(item.product_name, item.quantity, money.from_proto(item.subtotal, f"items[{number}].subtotal"))
            for number, item in enumerate(body.items)
        )
        total = money.from_proto(body.total, "total")
        time = body.order_time.ToDatetime(tzinfo=UTC)
    except InvalidArgument as error:
        raise Reject(error.message) from None
    except (ValueError, OverflowError):
        raise Reject("order_time is not a time") from None
    return Ending(envelope.order_id, body.user_id, outcome, body.reason, lines, total, time)
