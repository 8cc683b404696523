"""The report of a campaign says which promises were missed, and by whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from campaigns.checkout.facts import Asked, Found, Order, Payment, Step
from campaigns.checkout.judgement import NET_ZERO
from campaigns.checkout.shoppers import Answers
from campaigns.checkout.telling import Campaign, told
from campaigns.faults import Kind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = [Step(1, "PENDING", NOW), Step(2, "FAILED", NOW + timedelta(seconds=3))]


def failed(number: int) -> Order:
    return Order(f"o{number}", f"r{number}", "FAILED", 2, False, 500, "pm_card_visa", {"pen": 1}, STEPS)


ORDERS = [failed(number) for number in range(7)]
CAMPAIGN = Campaign(
    settings={"orders": 7},
    asked=Asked({}, {order.request_id: {order.id} for order in ORDERS}, {}),
    answers=Answers(took=[0.1, 0.2]),
    found=Found(
        orders=ORDERS,
        reservations={},
        stock={},
        payments={},
        mails={order.id: [True] for order in ORDERS},
        arrived={order.id: 1 for order in ORDERS},
        outboxes={},
    ),
    dead_letters=[],
    left={},
    faults={("order", Kind.KILL): 2},
    deaths={"payment exited with 70": 1},
    placing=2.0,
    settling=1.5,
)


def test_a_campaign_in_which_nothing_was_sold_proves_nothing() -> None:
    """Without a breach, what is missed is that there are orders which ended in each way."""
    missed = [promise.text for promise in told(CAMPAIGN).promises if not promise.kept]
    assert missed == ["orders that are FULFILLED", "orders that are CANCELLED"]


def test_the_first_who_broke_a_promise_are_named() -> None:
    """Five of seven orders that were charged and failed are named, and the others are counted."""
    charged = {order.id: Payment("CAPTURED", [500]) for order in ORDERS}
    report = told(replace(CAMPAIGN, found=replace(CAMPAIGN.found, payments=charged)))
    assert {promise.text: promise.measured for promise in report.promises}[NET_ZERO] == 7
    lines = [line for line in report.notes if line.startswith(NET_ZERO)]
    assert len(lines) == 6
    assert lines[0] == f"{NET_ZERO}: o0 is FAILED: Payment(state='CAPTURED', moves=[500])"
    assert lines[-1] == f"{NET_ZERO}: and 2 more"


def test_a_report_is_made_of_whatever_there_is() -> None:
    """A campaign in which no order was placed is told as well, and what was left over is named."""
    nothing = Found([], {}, {}, {}, {}, {}, {})
    report = told(replace(CAMPAIGN, answers=Answers(wrong=["CreateOrder: INTERNAL: oh"]), found=nothing, left={"x": 2}))
    assert {"wrong answer: CreateOrder: INTERNAL: oh", "still under way: 2 x"} < set(report.notes)
    assert "payment exited with 70: 1 times, not by kill -9" in report.text()
