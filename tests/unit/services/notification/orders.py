"""Orders that have ended, and the messages about them."""

from __future__ import annotations

from datetime import UTC, datetime

from shop.events.v1.events_pb2 import Envelope, OrderEnded, OrderEndedItem
from shop_services.notification.domain import Ending, Line, Mail, Outcome, Recipient, State, message_id
from shop_services.notification.letters import subject_of
from shop_services.runtime import money
from shop_services.runtime.money import Money
from shop_services.runtime.times import to_timestamp

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SENDER = "shop@shop.example"
PRICE = Money("EUR", 500)
PENS = Line("Pen", 2, PRICE)


def ending(
    *,
    order_id: str = "o1",
    user_id: str = "u1",
    outcome: Outcome = Outcome.FULFILLED,
    reason: str = "",
    lines: tuple[Line, ...] = (PENS,),
    total: Money = PRICE,
) -> Ending:
    """An order of two pens, as it ended."""
    return Ending(order_id, user_id, outcome, reason, lines, total, NOON)


def mail(about: Ending, *, address: str = "ann@example.com", name: str = "Ann") -> Mail:
    """The e-mail about an order, as it is recorded at noon."""
    return Mail(
        about.order_id,
        Recipient(address, name),
        subject_of(about),
        message_id(about.order_id, SENDER),
        State.PENDING,
        attempts=1,
        reason="",
        create_time=NOON,
    )


def body(about: Ending) -> OrderEnded:
    """What the message about an order says."""
    items = [
        OrderEndedItem(product_name=line.product_name, quantity=line.quantity, subtotal=money.to_proto(line.subtotal))
        for line in about.lines
    ]
    return OrderEnded(
        user_id=about.user_id,
        status=about.outcome,
        reason=about.reason,
        items=items,
        total=money.to_proto(about.total),
        order_time=to_timestamp(about.time),
    )


def ended(about: Ending, *, id: str = "") -> Envelope:
    """The message about an order."""
    envelope = Envelope(
        id=id or f"ended-{about.order_id}",
        type="order.ended",
        time=to_timestamp(NOON),
        order_id=about.order_id,
        order_version=4,
    )
    envelope.body.Pack(body(about))
    return envelope
