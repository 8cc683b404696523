"""The chapters in which nothing goes wrong: an account, the catalog, a delivery."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from urllib.parse import quote

from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.demo.stage import JsonObject, Stage
from shop_services.demo.story import check, stopwatch

_STREAM_SECONDS = 10.0


async def open_account(stage: Stage) -> None:
    """Ada opens an account and logs in; a wrong password does not open it. Her login is renewed without a password."""
    name, password = f"ada-{stage.token}", "correct horse battery staple"
    account = {
        "email": f"{name}@shop.example",
        "username": name,
        "password": password,
        "displayName": "Ada Lovelace",
        "profile": {"newsletter": False, "sizes": ["M"]},
    }
    created = await stage.http("POST", "/v1/users", account, outcome=lambda body: f"user {body['user']['id']}")
    stage.user = created["user"]
    check("password" not in str(created), "an answer shows a password")
    tokens = await log_in(stage, f"{name}@shop.example", password)
    await stage.http("POST", "/v1/users:login", {"login": name, "password": "guessed"}, status=401, outcome=message)
    exchange = {"refreshToken": tokens["refreshToken"]}
    renewed = await stage.http("POST", "/v1/users:refresh", exchange, outcome=lambda _: "new tokens")
    stage.access = renewed["tokens"]["accessToken"]
    path = f"/v1/users/{stage.user['id']}"
    own = await stage.http("GET", path, outcome=lambda body: f"{body['user']['role']}, as her token says")
    check(own["user"]["id"] == stage.user["id"], "her token is for another account")


async def log_in(stage: Stage, login: str, password: str) -> JsonObject:
    """Log in through the gateway, and return the tokens that it gives."""
    entered = await stage.http(
        "POST",
        "/v1/users:login",
        {"login": login, "password": password},
        token="",
        outcome=lambda body: f"welcome, {body['user']['displayName'] or body['user']['username']}",
    )
    return dict(entered["tokens"])


async def browse(stage: Stage) -> None:
    """Ada looks at a category, and picks the dearest thing in it."""
    catalog = await stage.http("GET", "/v1/products?pageSize=1000", outcome=lambda body: f"{count(body)} products")
    categories = sorted({product["category"] for product in catalog.get("products", [])})
    check(bool(categories), "the catalog is empty")
    path = f"/v1/products?category={quote(categories[0])}"
    shelf = await stage.http("GET", path, outcome=lambda body: f"{count(body)} products")
    for product in shelf["products"][:3]:
        stage.story.note(f"  {product['name']}, {price(product['price'])}")
    stage.product = max(shelf["products"], key=lambda product: amount(product["price"]))
    stage.story.note(f"Ada likes: {stage.product['name']}")


async def watch_a_price(stage: Stage) -> None:
    """Ada watches the category over gRPC, and sees a price change in the moment it is made through the gateway.

    A change that is based on the old state is refused, and in the end the price is what it was.
    """
    before, path = stage.product, f"/v1/products/{stage.product['id']}"
    sale = {**before["price"], "units": str(int(before["price"].get("units", 0)) // 2)}
    async with stage.as_ada("product") as channel:
        request = product_pb2.WatchProductsRequest(category=before["category"])
        changes = ProductServiceStub(channel).WatchProducts(request)
        async with asyncio.timeout(_STREAM_SECONDS):
            await changes.initial_metadata()
            with stopwatch() as elapsed:
                change = {"price": sale, "etag": before["etag"]}
                changed = await stage.http(
                    "PATCH",
                    path,
                    change,
                    token=stage.operator,
                    outcome=lambda body: price(body["product"]["price"]),
                )
                seen = await anext(aiter(changes))
                stage.story.did("WatchProducts", f"{seen.product.name} changed, revision {seen.revision}", elapsed())
        changes.cancel()
    check(seen.product.etag == changed["product"]["etag"], "the stream shows another change")
    back = {"price": before["price"], "etag": before["etag"]}
    await stage.http("PATCH", path, back, status=409, token=stage.operator, outcome=message)
    back["etag"] = changed["product"]["etag"]
    restored = await stage.http(
        "PATCH", path, back, token=stage.operator, outcome=lambda body: price(body["product"]["price"])
    )
    stage.product = restored["product"]


async def take_a_delivery(stage: Stage) -> None:
    """Ten more of the product arrive."""
    path = f"/v1/products/{stage.product['id']}/stock"
    token = stage.operator
    before = await stage.http("GET", path, token=token, outcome=lambda body: f"{available(body)} available")
    delivery, path = {"delta": "10", "requestId": f"delivery-{stage.token}"}, f"{path}:adjust"
    after = await stage.http("POST", path, delivery, token=token, outcome=lambda body: f"{available(body)} available")
    check(available(after) == available(before) + 10, "the delivery was not counted")
    again = await stage.http("POST", path, delivery, token=token, outcome=lambda _: "sent again, counted once")
    check(available(again) == available(after), "a repeated delivery was counted twice")


def amount(money: JsonObject) -> Decimal:
    """A google.type.Money in JSON as a number."""
    return Decimal(money.get("units", 0)) + Decimal(money.get("nanos", 0)).scaleb(-9)


def price(money: JsonObject) -> str:
    """A google.type.Money in JSON for a person: "12.50 EUR"."""
    return f"{amount(money):.2f} {money['currencyCode']}"


def count(body: JsonObject, field: str = "products") -> int:
    """How many items a list has; JSON leaves an empty one out."""
    return len(body.get(field, []))


def available(body: JsonObject) -> int:
    """How many can be sold; JSON leaves out a 0, and has 64 bits as a string."""
    return int(body["stock"].get("available", 0))


def describe(order: JsonObject) -> str:
    """An order in a few words."""
    return f"order {order['id']}, {price(order['total'])}, {order['status'].removeprefix('ORDER_STATUS_')}"


def message(body: JsonObject) -> str:
    """What an error says."""
    return str(body.get("message", ""))
