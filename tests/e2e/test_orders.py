"""Orders from CreateOrder to the e-mail, through all processes, and what becomes of them when one dies."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from tests.e2e.buying import SLOW_CARD, Shopper, history
from tests.e2e.processes import frozen, listener
from tests.e2e.running_shop import RunningShop

FULFILLED = ["PENDING", "PROCESSING", "PAID", "FULFILLED"]


def ledger(shop: RunningShop, order_id: str) -> tuple[list[str], int]:
    """The states that an order's payment had, and the net charge in hundredths."""
    address = shop.instances("payment")[0]["address"]
    request = json.dumps({"key": order_id})
    payment = json.loads(shop.grpcurl("-d", request, address, "shop.payment.v1.PaymentService/GetPayment"))["payment"]
    states = [entry["state"].removeprefix("PAYMENT_STATE_") for entry in payment["entries"]]
    net: dict[str, Any] = payment.get("netCharge", {})
    return states, int(net.get("units", 0)) * 100 + net.get("nanos", 0) // 10_000_000


def test_an_order_is_fulfilled_and_a_receipt_is_sent(shop: RunningShop) -> None:
    """An order goes its way by itself: stock committed, the card charged once, one e-mail, which `shop mail` shows."""
    shopper = Shopper(shop, stock=10)
    order_id = shopper.orders(quantity=3)
    assert history(shopper.sees(order_id, "FULFILLED")) == FULFILLED
    assert shopper.stock() == {"available": 7, "reserved": 0, "committed": 3}
    assert ledger(shop, order_id) == (["AUTHORIZED", "CAPTURED"], 3750)
    (mail,) = shopper.mails(1)
    assert order_id in mail["subject"]
    text = shop.run("shop", "mail", "show", mail["id"], "--data", str(shop.data))
    assert f"To: {shopper.address}" in text
    assert "Kettle: 37.50 EUR" in text


def test_a_refused_card_is_compensated(shop: RunningShop) -> None:
    """A card that is refused after the stock was reserved leaves no charge and no reservation, and an e-mail."""
    shopper = Shopper(shop, stock=10)
    order_id = shopper.orders(card="pm_card_chargeDeclinedInsufficientFunds")
    order = shopper.sees(order_id, "FAILED")
    assert history(order) == ["PENDING", "PROCESSING", "FAILED"]
    assert order["statusReason"] == "payment refused: insufficient_funds"
    shopper.finds_stock(available=10, committed=0)
    assert ledger(shop, order_id) == (["REFUSED"], 0)
    (mail,) = shopper.mails(1)
    assert "could not be completed" in mail["subject"]


def test_the_last_one_is_sold_once(shop: RunningShop) -> None:
    """Of several orders for the last unit one is fulfilled; the others fail, uncharged."""
    shopper = Shopper(shop, stock=1)
    orders = [shopper.orders(quantity=1) for _ in range(4)]
    ended = [history(shopper.sees(order_id, "FULFILLED", "FAILED"))[-1] for order_id in orders]
    assert sorted(ended) == ["FAILED", "FAILED", "FAILED", "FULFILLED"]
    shopper.finds_stock(available=0, committed=1)


def test_a_worker_killed_in_the_middle_is_missed_by_nobody(shop: RunningShop) -> None:
    """kill -9 of a worker that charges a card: its message goes to its successor, and the card is charged once."""
    shopper = Shopper(shop, stock=10)
    (worker,) = shop.instances("payments-worker")
    pid = listener(worker["address"])
    assert pid in shop.descendants()
    with frozen(*(listener(payment["address"]) for payment in shop.instances("payment"))):
        order_id = shopper.orders()
        shopper.sees(order_id, "PROCESSING")
        shop.sees_message_handled("payments")  # by the worker, whom nobody answers
        os.kill(pid, signal.SIGKILL)
    assert history(shopper.sees(order_id, "FULFILLED")) == FULFILLED
    assert ledger(shop, order_id) == (["AUTHORIZED", "CAPTURED"], 2500)
    assert len(shopper.mails(1)) == 1
    assert f"worker-payments (pid {pid}) was killed by SIGKILL; it is started again in" in shop.errors()
    assert shop.successor(worker)["address"] == worker["address"]


def test_orders_are_taken_while_nats_is_away(shop: RunningShop) -> None:
    """kill -9 of NATS: orders are taken meanwhile, and all of them, older ones too, are fulfilled when it is back."""
    shopper = Shopper(shop, stock=100)
    before = [shopper.orders(card=SLOW_CARD) for _ in range(2)]
    pid = listener(shop.bus.removeprefix("nats://"))
    with frozen(shop.process.pid):  # so that it is not back before
        os.kill(pid, signal.SIGKILL)
        after = [shopper.orders() for _ in range(5)]
    for order_id in (*before, *after):
        assert history(shopper.sees(order_id, "FULFILLED")) == FULFILLED
    shopper.finds_stock(available=86, committed=14)
    assert len(shopper.mails(7)) == 7
    assert f"nats (pid {pid}) was killed by SIGKILL; it is started again in" in shop.errors()
