"""The front door, as curl sees it."""

from __future__ import annotations

from uuid import uuid4

from tests.e2e.running_shop import RunningShop


def test_the_first_request_shows_a_catalog(shop: RunningShop) -> None:
    """A new shop has something to sell: `curl /v1/products` is not empty."""
    products = shop.http("GET", "/v1/products?pageSize=3")["products"]
    assert len(products) == 3
    assert all(product["price"]["currencyCode"] for product in products)


def test_a_request_goes_through_several_services(shop: RunningShop) -> None:
    """An order made over HTTP has the user service's user, and the product service's price."""
    name = f"u{uuid4().hex[:12]}"
    account = {"email": f"{name}@shop.example", "username": name, "password": "correct horse"}
    user = shop.http("POST", "/v1/users", account)["user"]
    (product,) = shop.http("GET", "/v1/products?pageSize=1")["products"]
    items = [{"productId": product["id"], "quantity": 3}]
    order = shop.http("POST", "/v1/orders", {"requestId": name, "userId": user["id"], "items": items})["order"]
    assert order["items"][0]["unitPrice"] == product["price"]
    assert order["status"] == "ORDER_STATUS_PENDING"
    assert shop.http("GET", f"/v1/orders/{order['id']}")["order"]["userId"] == user["id"]


def test_bad_input_is_answered_precisely(shop: RunningShop) -> None:
    """Wrong requests get the status and the detail that say what to change, in the shape of google.rpc.Status."""
    refused = shop.http("POST", "/v1/users", {"email": "nobody", "username": "ok-name", "password": "x"}, status=400)
    fields = {violation["field"] for detail in refused["details"] for violation in detail.get("fieldViolations", [])}
    assert refused["code"] == 3
    assert fields == {"email", "password"}
    assert "no-such" in shop.http("GET", "/v1/products/no-such", status=404)["message"]
    assert shop.http("GET", "/v1/nothing-here", status=404)["code"] == 5
    unknown = {"requestId": uuid4().hex, "userId": "nobody", "items": [{"productId": "no-such", "quantity": 1}]}
    assert shop.http("POST", "/v1/orders", unknown, status=400)["code"] in (3, 9)


def test_every_gateway_answers(shop: RunningShop) -> None:
    """The table that `shop up` prints names two gateways or more, and each is ready."""
    addresses = [line.split()[1] for line in shop.output() if line.strip().startswith("gateway-")]
    assert len(addresses) >= 2
    for address in addresses:
        assert shop.answers(f"http://{address}/readyz")
    assert shop.http("GET", "/healthz")
    assert shop.http("GET", "/openapi.json")["openapi"].startswith("3.")
