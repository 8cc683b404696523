"""What a shopper does over HTTP: opens an account, orders, and looks what became of it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from tests.e2e.processes import frozen, listener
from tests.e2e.running_shop import RunningShop

FINAL = {"FULFILLED", "FAILED", "CANCELLED"}
SLOW_CARD = "pm_sim_slow"
"""A card of the simulated provider that takes two seconds to authorize."""


class Shopper:
    """Somebody with an account, who buys one product that nobody else buys."""

    def __init__(self, shop: RunningShop, *, stock: int = 10) -> None:
        self.shop = shop
        name = f"u{uuid4().hex[:12]}"
        self.address = f"{name}@shop.example"
        account = {"email": self.address, "username": name, "password": "correct horse"}
        self.user: dict[str, Any] = shop.http("POST", "/v1/users", account, token="")["user"]
        login = shop.http("POST", "/v1/users:login", {"login": name, "password": "correct horse"}, token="")
        self.token = str(login["tokens"]["accessToken"])
        price = {"currencyCode": "EUR", "units": "12", "nanos": 500000000}
        new = {"sku": name, "name": "Kettle", "category": "e2e", "price": price, "initialStock": str(stock)}
        self.product: dict[str, Any] = shop.http("POST", "/v1/products", new)["product"]

    def orders(self, quantity: int = 2, card: str = "") -> str:
        """Order; returns the order's id."""
        items = [{"productId": self.product["id"], "quantity": quantity}]
        wanted = {"requestId": uuid4().hex, "userId": self.user["id"], "items": items, "paymentMethod": card}
        return str(self.shop.http("POST", "/v1/orders", wanted, token=self.token)["order"]["id"])

    def order(self, order_id: str) -> dict[str, Any]:
        return dict(self.shop.http("GET", f"/v1/orders/{order_id}", token=self.token)["order"])

    def sees(self, order_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """The order, as soon as it has one of `statuses`."""
        deadline = time.monotonic() + seconds
        while status(order := self.order(order_id)) not in statuses:
            assert time.monotonic() < deadline, order
            assert status(order) not in FINAL, order
            time.sleep(0.05)
        return order

    def stock(self) -> dict[str, int]:
        """How many are available, reserved and committed."""
        stock = self.shop.http("GET", f"/v1/products/{self.product['id']}/stock")["stock"]
        return {name: int(stock.get(name, 0)) for name in ("available", "reserved", "committed")}

    def finds_stock(self, *, available: int, committed: int, seconds: float = 20) -> None:
        """Returns when nothing is reserved and the rest is so: compensations come after an order's end."""
        expected = {"available": available, "reserved": 0, "committed": committed}
        deadline = time.monotonic() + seconds
        while (found := self.stock()) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def mails(self, count: int, *, seconds: float = 30) -> list[dict[str, Any]]:
        """What `shop mail ls` lists for this shopper, newest first, as soon as it is so many."""
        deadline = time.monotonic() + seconds
        while len(found := self.shop.mails(self.address)) < count:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        assert len(found) == count
        return found


@contextmanager
def uncharged(shop: RunningShop) -> Generator[None, None, None]:
    """No card is charged in the block, however long it takes, since who would is frozen: an order can be cancelled."""
    (worker,) = shop.instances("payments-worker")
    with frozen(listener(worker["address"])):
        yield


def status(order: dict[str, Any]) -> str:
    return str(order["status"]).removeprefix("ORDER_STATUS_")


def history(order: dict[str, Any]) -> list[str]:
    return [status(step) for step in order["history"]]
