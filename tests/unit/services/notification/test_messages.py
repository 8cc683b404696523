"""Messages that are understood, and messages that never will be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.type.money_pb2 import Money as MoneyProto

from shop.events.v1.events_pb2 import Envelope, OrderEnded
from shop_services.messaging.bus import Reject
from shop_services.notification.domain import Line, Outcome
from shop_services.notification.messages import ending_of
from shop_services.runtime.money import Money
from tests.unit.services.notification.orders import body, ended, ending


def test_all_that_it_says_is_read() -> None:
    """An ending survives the way through a message."""
    lines = (Line("Pen", 2, Money("EUR", 500)), Line("墨", 1, Money("EUR", 999)))
    about = ending(outcome=Outcome.CANCELLED, reason="by the user", lines=lines, total=Money("EUR", 1499))
    assert ending_of(ended(about)) == about


def _with(change: Callable[[OrderEnded], object]) -> Envelope:
    envelope, told = ended(ending()), body(ending())
    change(told)
    envelope.body.Pack(told)
    return envelope


def _but(**fields: str) -> Envelope:
    envelope = ended(ending())
    for name, value in fields.items():
        setattr(envelope, name, value)
    return envelope


def _foreign() -> Envelope:
    envelope = ended(ending())
    envelope.body.Pack(MoneyProto())
    return envelope


def _broken() -> Envelope:
    envelope = ended(ending())
    envelope.body.value = b"\xff\xff"
    return envelope


@pytest.mark.parametrize(
    ("envelope", "named"),
    [
        (_but(type="order.charge"), "type 'order.charge'"),
        (_but(id=""), "id ''"),
        (_but(id="x" * 65), "id 'x"),
        (_but(order_id=""), "order_id ''"),
        (_but(order_id="a>\r\nBcc: b"), "order_id "),
        (Envelope(id="m1", type="order.ended", order_id="o1"), "no OrderEnded but ''"),
        (_foreign(), "google.type.Money"),
        (_broken(), "cannot be read"),
        (_with(lambda told: told.ClearField("user_id")), "user_id ''"),
        (_with(lambda told: setattr(told, "status", "PAID")), "status 'PAID'"),
        (_with(lambda told: told.ClearField("total")), "total: currency"),
        (_with(lambda told: setattr(told.items[0].subtotal, "nanos", 1)), "items[0].subtotal.nanos"),
        (_with(lambda told: setattr(told.order_time, "seconds", 2**60)), "order_time"),
    ],
)
def test_what_cannot_be_understood_is_rejected(envelope: Envelope, named: str) -> None:
    """A message that no repetition could help is rejected for a reason that names what is wrong with it."""
    with pytest.raises(Reject) as caught:
        ending_of(envelope)
    assert named in str(caught.value)
