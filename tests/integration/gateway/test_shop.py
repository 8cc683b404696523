"""The gateway before the real services of the shop."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openapi_spec_validator import validate

from tests.integration.gateway.serving import DEADLINE
from tests.integration.gateway.shop import WIRINGS, running_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENTRY = "/v1/cache/sessions/entries/k"
MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway of a whole shop, which is ready."""
    async with running_shop(tmp_path_factory.mktemp("shop")) as client:
        await until_ready(client)
        yield client


async def until_ready(client: httpx.AsyncClient) -> None:
    """Return when every service can be called."""
    async with asyncio.timeout(DEADLINE):
        while (await client.get("/readyz")).status_code != 200:
            pass


async def ok(response: httpx.Response) -> Any:
    """The JSON of an answer that must be good."""
    assert response.status_code == 200, response.text
    return response.json()


def violations(answer: Any) -> set[str]:
    """The fields that an error complains of."""
    return {violation["field"] for detail in answer["details"] for violation in detail.get("fieldViolations", ())}


async def new_product(shop: httpx.AsyncClient, sku: str, **fields: Any) -> Any:
    price = {"currencyCode": "EUR", "units": "12", "nanos": 990000000}
    body = {"sku": sku, "name": f"Book {sku}", "category": "books", "price": price, "initialStock": "10", **fields}
    return (await ok(await shop.post("/v1/products", json=body)))["product"]


async def new_user(shop: httpx.AsyncClient, name: str) -> Any:
    body = {"email": f"{name}@shop.example", "username": name, "password": "correct horse", "profile": {"age": 5}}
    return (await ok(await shop.post("/v1/users", json=body)))["user"]


async def test_a_user_signs_up_logs_in_and_changes_a_name(shop: httpx.AsyncClient) -> None:
    """The routes of the user service: verbs, a PATCH without a mask, Struct, etag, DELETE."""
    user = await new_user(shop, "ada")
    assert user["profile"] == {"age": 5}
    login = {"login": "ada", "password": "correct horse"}
    assert (await ok(await shop.post("/v1/users:login", json=login)))["user"]["id"] == user["id"]
    wrong = await shop.post("/v1/users:login", json={**login, "password": "wrong"})
    assert wrong.status_code == 401
    assert wrong.headers["www-authenticate"] == "Bearer"
    path = f"/v1/users/{user['id']}"
    changed = (await ok(await shop.patch(path, json={"displayName": "Ada", "etag": user["etag"]})))["user"]
    assert (changed["displayName"], changed["email"]) == ("Ada", user["email"])
    stale = await shop.patch(path, json={"displayName": "Eve", "etag": user["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (409, 10)
    assert await ok(await shop.delete(path, params={"etag": changed["etag"]})) == {}
    assert (await shop.get(path)).status_code == 404


async def test_a_product_is_listed_changed_and_counted(shop: httpx.AsyncClient) -> None:
    """The routes of the product service: pages, a repeated parameter, Money, int64, a PATCH of one field, stock."""
    products = [await new_product(shop, f"list-{number}", category="lamps") for number in range(3)]
    page = await ok(await shop.get("/v1/products", params={"category": "lamps", "pageSize": 2}))
    assert [product["id"] for product in page["products"]] == [product["id"] for product in products[:2]]
    rest = {"category": "lamps", "page_size": 2, "page_token": page["nextPageToken"]}
    assert len((await ok(await shop.get("/v1/products", params=rest)))["products"]) == 1
    ids = [products[0]["id"], "no-such"]
    batch = await ok(await shop.get("/v1/products:batchGet", params={"productIds": ids}))
    assert [product["sku"] for product in batch["products"]] == ["list-0"]
    assert batch["missingProductIds"] == ["no-such"]
    path = f"/v1/products/{products[0]['id']}"
    body = {"id": products[0]["id"], "price": {"currencyCode": "EUR", "units": "7"}}
    changed = (await ok(await shop.patch(path, json=body)))["product"]
    assert changed["price"] == {"currencyCode": "EUR", "units": "7", "nanos": 0}
    assert changed["name"] == products[0]["name"]
    stock = await ok(await shop.post(f"{path}/stock:adjust", json={"delta": "-3"}))
    assert stock["stock"]["available"] == "7"
    assert (await ok(await shop.get(f"{path}/stock")))["stock"] == stock["stock"]


async def test_an_order_is_made_read_and_cancelled(shop: httpx.AsyncClient) -> None:
    """The routes of the order service, through three services."""
    user, product = await new_user(shop, "grace"), await new_product(shop, "ordered")
    items = [{"productId": product["id"], "quantity": 2}]
    body = {"requestId": "r1", "userId": user["id"], "items": items}
    order = (await ok(await shop.post("/v1/orders", json=body)))["order"]
    assert order["total"] == {"currencyCode": "EUR", "units": "25", "nanos": 980000000}
    assert (await ok(await shop.post("/v1/orders", json=body)))["order"]["id"] == order["id"]
    query = {"userId": user["id"], "status": "ORDER_STATUS_PENDING"}
    listed = await ok(await shop.get("/v1/orders", params=query))
    assert [each["id"] for each in listed["orders"]] == [order["id"]]
    path = f"/v1/orders/{order['id']}"
    assert (await ok(await shop.get(path)))["order"]["history"]
    cancelled = (await ok(await shop.post(f"{path}:cancel", json={"reason": "no"})))["order"]
    assert (cancelled["status"], cancelled["statusReason"]) == ("ORDER_STATUS_CANCELLED", "no")
    watched = (await shop.get(f"{path}:watch")).text.splitlines()  # to its end, since the order has ended
    assert [json.loads(line)["result"]["order"]["status"] for line in watched] == ["ORDER_STATUS_CANCELLED"]
    missing = await shop.get("/v1/orders/no-such:watch", headers={"Accept": "text/event-stream"})
    assert (missing.status_code, missing.json()["code"]) == (404, 5)


async def test_changes_of_products_are_events(shop: httpx.AsyncClient) -> None:
    """A watch of the catalog has begun when its headers are here, and every change after that is an event."""
    path, headers = "/v1/products:watch?category=watched", {"Accept": "text/event-stream"}
    async with asyncio.timeout(DEADLINE), shop.stream("GET", path, headers=headers) as got:
        assert got.headers["content-type"] == "text/event-stream"
        assert int(got.headers["grpc-metadata-catalog-revision"]) >= 0
        made = await new_product(shop, "watched-1", category="watched")
        async for line in got.aiter_lines():
            if line.startswith("data: "):
                break
    assert json.loads(line.removeprefix("data: "))["product"]["id"] == made["id"]


async def test_a_cache_keeps_bytes_under_keys_of_several_segments(shop: httpx.AsyncClient) -> None:
    """The routes of the cache service: `**`, bytes as base64, a Duration, verbs after a variable."""
    entry = "/v1/cache/sessions/entries/a/b%20c/d:e"
    value = base64.b64encode(b"\x00\xff").decode()
    await ok(await shop.put(entry, json={"value": value, "ttl": "60s"}))
    got = (await ok(await shop.get(entry)))["entry"]
    assert (got["key"], got["value"]) == ("a/b c/d:e", value)
    assert got["expireTime"].endswith("Z")
    batch = await ok(await shop.post("/v1/cache/sessions:batchGet", json={"keys": ["a/b c/d:e", "x"]}))
    assert batch["missingKeys"] == ["x"]
    stats = await ok(await shop.get("/v1/cache:stats", params={"namespace": "sessions"}))
    assert stats["namespaces"][0]["entries"] == "1"
    swap = {"value": value, "expectedVersion": got["version"]}
    swapped = await ok(await shop.post(f"{entry}:compareAndSet", json=swap))
    assert swapped["swapped"] is True
    assert int(swapped["version"]) > int(got["version"])
    refused = await ok(await shop.post(f"{entry}:compareAndSet", json=swap))
    assert refused == {"swapped": False, "version": swapped["version"]}
    gone = await ok(await shop.post("/v1/cache/sessions:batchDelete", json={"keys": ["a/b c/d:e", "x"]}))
    assert gone == {"removed": "1"}
    await ok(await shop.put(entry, json={"value": value}))
    assert await ok(await shop.post("/v1/cache/sessions:clear", json={})) == {"removed": "1"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "fields"),
    [
        ("POST", "/v1/users", {"email": "x", "username": "bob-1", "password": "x"}, 400, 3, {"email", "password"}),
        ("POST", "/v1/users", {"e-mail": "x"}, 400, 3, {"e-mail"}),
        ("GET", "/v1/products?pageSize=5000", None, 400, 3, {"page_size"}),
        ("GET", "/v1/products?size=5", None, 400, 3, {"size"}),
        ("GET", "/v1/products?pageToken=zzz", None, 400, 3, {"page_token"}),
        ("GET", "/v1/products/no-such", None, 404, 5, set()),
        ("GET", "/v1/cache/%20/entries/k", None, 400, 3, {"namespace"}),
        ("GET", "/v1/cache/no-such/entries/k", None, 400, 3, {"namespace"}),
        *(("PUT", ENTRY, {"ttl": ttl}, 400, 3, {"ttl"}) for ttl in ("0s", "-1s", "31536001s", "999999999999999s")),
        pytest.param("PUT", f"{ENTRY}/{'x' * 1024}", {}, 400, 3, {"key"}, id="a key that is too long"),
        ("POST", "/v1/orders", {"items": [{}] * 100_000}, 413, 8, set()),
        ("PUT", ENTRY, {"value": base64.b64encode(bytes(MIB + 1)).decode()}, 400, 3, {"value"}),
        ("PATCH", "/v1/products/x", {"id": "y"}, 400, 3, {"product.id"}),
        (
            "POST",
            "/v1/stock:reserve",
            {"orderId": "o", "items": [{"productId": "p", "quantity": "x"}]},
            400,
            3,
            {"items[0].quantity"},
        ),
    ],
)
async def test_bad_input_names_its_field(
    shop: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: int, fields: set[str]
) -> None:
    """Whether the gateway or a service finds it out, the details have the path of the field, as the protos spell it."""
    response = await shop.request(method, path, json=body)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (status, code), answer
    assert violations(answer) == fields


async def test_the_document_describes_what_is_answered(shop: httpx.AsyncClient) -> None:
    """The published document is valid and has the routes, those of streams with both of their types."""
    document = (await shop.get("/openapi.json")).json()
    validate(document)
    assert document["info"]["title"] == "Shop"
    assert "post" in document["paths"]["/v1/orders/{order_id}:cancel"]
    streamed = document["paths"]["/v1/products:watch"]["get"]["responses"]["200"]["content"]
    assert streamed.keys() == {"application/x-ndjson", "text/event-stream"}


async def test_a_missing_service_is_named(tmp_path: Path) -> None:
    """Without its service a route is a 503 that names it, the others work, and `/readyz` says which is missing."""
    async with running_shop(tmp_path, [name for name in WIRINGS if name != "cache"]) as client:
        async with asyncio.timeout(DEADLINE):
            while len((ready := await client.get("/readyz")).json()["missing"]) > 1:
                pass
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "missing": ["cache"], "draining": False}
        gone = await client.get("/v1/cache:stats")
        assert (gone.status_code, gone.json()["code"]) == (503, 14)
        assert "cache" in gone.json()["message"]
        await ok(await client.get("/v1/products"))
