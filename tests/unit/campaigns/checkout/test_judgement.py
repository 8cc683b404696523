"""A campaign is judged by what its shop's tables say: every kind of breach is found, and a sound shop has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from campaigns.checkout import judgement
from campaigns.checkout.facts import Asked, Found, Order, Payment, Reservation, Step, Stock
from campaigns.checkout.judgement import judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = {"pen": 2}


def order(id: str, *statuses: str, card: str = "pm_card_visa") -> Order:
    history = [Step(version, status, NOW) for version, status in enumerate(statuses, 1)]
    return Order(id, f"r-{id}", statuses[-1], len(statuses), False, 500, card, ITEMS, history)


SOLD = order("sold", "PENDING", "PROCESSING", "PAID", "FULFILLED")
REFUSED = order("refused", "PENDING", "PROCESSING", "FAILED", card="pm_card_chargeDeclined")
CALLED_OFF = order("called-off", "PENDING", "PROCESSING", "PAID", "CANCELLED")

ASKED = Asked(
    initial={"pen": 10},
    told={one.request_id: {one.id} for one in (SOLD, REFUSED, CALLED_OFF)},
    cancelled={"called-off": True, "sold": False},
)
FOUND = Found(
    orders=[SOLD, REFUSED, CALLED_OFF],
    reservations={
        "sold": Reservation("COMMITTED", ITEMS),
        "refused": Reservation("RELEASED", ITEMS),
        "called-off": Reservation("RELEASED", ITEMS),
    },
    stock={"pen": Stock(available=8, reserved=0, committed=2)},
    payments={
        "sold": Payment("CAPTURED", [500]),
        "refused": Payment("REFUSED", []),
        "called-off": Payment("REFUNDED", [500, -500]),
    },
    mails={"sold": [True], "refused": [True], "called-off": [True]},
    arrived={"sold": 1, "refused": 2, "called-off": 1},
    outboxes={"order_outbox": 0},
)


def test_a_sound_shop_has_no_breach() -> None:
    """An order that was sold, one that was refused and one that was called off break no promise."""
    assert judge(ASKED, FOUND) == []


def with_order(changed: Order) -> Found:
    return replace(FOUND, orders=[changed if one.id == changed.id else one for one in FOUND.orders])


def with_one(field: str, **changed: Any) -> Found:
    known: Mapping[str, Any] = getattr(FOUND, field)
    fields: dict[str, Any] = {field: {**known, **{id.replace("_", "-"): value for id, value in changed.items()}}}
    return replace(FOUND, **fields)


@pytest.mark.parametrize(
    ("promise", "found", "who"),
    [
        (judgement.TERMINAL, with_order(order("sold", "PENDING", "PROCESSING", "PAID")), "sold"),
        (judgement.OWING, with_order(replace(REFUSED, owes=True)), "refused"),
        (judgement.OWING, replace(FOUND, outboxes={"order_outbox": 1}), "order_outbox"),
        (judgement.PATH, with_order(order("sold", "PENDING", "PAID", "FULFILLED")), "sold"),
        (judgement.PATH, with_order(order("sold", "PROCESSING", "PAID", "FULFILLED")), "sold"),
        (judgement.PATH, with_order(replace(SOLD, version=3)), "sold"),
        (judgement.PATH, with_order(replace(SOLD, history=[*SOLD.history, SOLD.history[-1]])), "sold"),
        (judgement.ONCE, replace(FOUND, orders=[*FOUND.orders, replace(REFUSED, id="again")]), "r-refused"),
        (judgement.ONCE, replace(FOUND, orders=FOUND.orders[1:]), "r-sold"),
        (judgement.ONCE, with_one("payments", nobody=Payment("VOIDED", [])), "nobody"),
        (judgement.CHARGED, with_one("payments", sold=Payment("CAPTURED", [500, 500])), "sold"),
        (judgement.CHARGED, with_one("payments", sold=Payment("CAPTURED", [499])), "sold"),
        (judgement.CHARGED, with_one("payments", sold=Payment("REFUNDED", [500, -500])), "sold"),
        (judgement.CHARGED, with_one("payments", sold=Payment("AUTHORIZED", [])), "sold"),
        (judgement.SOLD, with_one("reservations", sold=Reservation("RESERVED", ITEMS)), "sold"),
        (judgement.SOLD, with_one("reservations", sold=Reservation("COMMITTED", {"pen": 1})), "sold"),
        (judgement.NET_ZERO, with_one("payments", called_off=Payment("CAPTURED", [500])), "called-off"),
        (judgement.NET_ZERO, with_one("payments", called_off=Payment("AUTHORIZED", [])), "called-off"),
        (judgement.RELEASED, with_one("reservations", refused=Reservation("RESERVED", ITEMS)), "refused"),
        (judgement.RELEASED, with_one("reservations", refused=Reservation("COMMITTED", ITEMS)), "refused"),
        (judgement.BALANCE, with_one("stock", pen=Stock(6, 0, 4)), "pen"),
        (judgement.BALANCE, with_one("stock", pen=Stock(6, 2, 2)), "pen"),
        (judgement.MAILED, with_one("mails", sold=[]), "sold"),
        (judgement.MAILED, with_one("mails", sold=[True, True]), "sold"),
        (judgement.MAILED, with_one("mails", sold=[False]), "sold"),
        (judgement.MAILED, with_one("arrived", sold=0), "sold"),
        (judgement.CALLED_OFF, with_order(order("called-off", "PENDING", "FAILED")), "called-off"),
        (judgement.CALLED_OFF, with_order(order("refused", "PENDING", "CANCELLED")), "refused"),
        (judgement.REFUSALS, with_order(replace(SOLD, card="pm_card_chargeDeclined")), "sold"),
    ],
)
def test_every_breach_is_found(promise: str, found: Found, who: str) -> None:
    """What is wrong with one order, product or request is told as a breach of the promise that it breaks."""
    assert (promise, who) in {(breach.promise, breach.who) for breach in judge(ASKED, found)}


def test_an_order_that_costs_nothing_needs_no_payment() -> None:
    """A FULFILLED order of a total of zero is sound without a payment, whatever its card."""
    free = replace(SOLD, hundredths=0, card="pm_card_chargeDeclined")
    payments = {id: payment for id, payment in FOUND.payments.items() if id != "sold"}
    assert judge(ASKED, replace(with_order(free), payments=payments)) == []
