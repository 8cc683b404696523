"""schemathesis against a running shop, from the document that the shop publishes.

A run makes up requests for every operation, good ones and bad ones, from its schemas, and holds each answer to the
document: its status, content type, headers and body. OPENAPI_EXAMPLES is how many it makes up for each operation beside
those for the edges of the schemas, OPENAPI_SEED which:

    OPENAPI_EXAMPLES=1000 OPENAPI_SEED=7 buildscripts/test tests/e2e/test_openapi.py
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shop_services.runtime.operator import operator_token
from shop_services.runtime.settings import Settings
from tests.e2e.buying import uncharged
from tests.e2e.conftest import LEASE_TTL
from tests.e2e.running_shop import BIN, ENVIRONMENT, RunningShop

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "8"))
SEED = int(os.environ.get("OPENAPI_SEED", "1"))
SECONDS = 600 + EXAMPLES * 20
"""After which a run has failed; it takes a fraction of that."""
ACCESS_TTL = 86400
"""Seconds that a token is good for: longer than all runs together, however busy the machine is."""
ROOT = Path(__file__).parents[2]

# A schema is left wider than the rules that it cannot say (a price is a Money, but not any Money is a price), and what
# is read is wider than the schema (an enum's number, null for a field that is not there).
NOT_CHECKED = "positive_data_acceptance,negative_data_rejection"


@dataclass(frozen=True, slots=True)
class Things:
    """What a run is told that there is: `known`, of a customer who has the token `customer`."""

    customer: str
    known: Mapping[str, Any]


class Shop:
    """A running shop, as its operator sees it."""

    def __init__(self, running: RunningShop, client: httpx.Client) -> None:
        self.running = running
        self.admin = operator_token(Settings(data=running.data, access_ttl=ACCESS_TTL))
        self._client = client

    def things(self) -> Things:
        """New ones: an account, a product, and an order that was cancelled, all for one run that may spoil them."""
        name = f"u{uuid4().hex[:12]}"
        login = {"login": name, "password": "correct horse"}
        account = {"email": f"{name}@shop.example", "username": name, "password": login["password"]}
        user = self.call("POST", "/v1/users", account)["user"]["id"]
        tokens = self.call("POST", "/v1/users:login", login)["tokens"]
        price = {"currencyCode": "EUR", "units": "12", "nanos": 0}
        made = {"sku": name, "name": "Known", "category": "books", "price": price, "initialStock": "1000000"}
        product = self.call("POST", "/v1/products", made)["product"]["id"]
        items = [{"productId": product, "quantity": "1"}]
        wanted = {"requestId": name, "userId": user, "items": items}
        cancel = {"requestId": name, "reason": "", "etag": ""}  # repeated, it is answered again
        with uncharged(self.running):
            order = self.call("POST", "/v1/orders", wanted)["order"]["id"]
            self.call("POST", f"/v1/orders/{order}:cancel", cancel)
        self.call("POST", "/v1/stock:reserve", {"orderId": f"{name}-1", "items": items})
        known = {
            "paths": {"user_id": user, "product_id": product, "order_id": order, "namespace": "default"},
            "queries": {
                "ProductService_BatchGetProducts": {"productIds": [product]},
                "CacheService_GetStats": {"namespace": "default"},
            },
            "bodies": {
                "UserService_Login": login,
                "UserService_RefreshTokens": {"refreshToken": tokens["refreshToken"]},
                "UserService_UpdateUser": {"displayName": "Known"},
                "ProductService_CreateProduct": {"requestId": "", "price": price, "initialStock": "1"},
                "ProductService_UpdateProduct": {"name": "Known"},
                "InventoryService_CommitStock": {"orderId": f"{name}-1"},
                "InventoryService_ReserveStock": {"orderId": f"{name}-2", "items": items},
                "InventoryService_ReleaseStock": {"orderId": f"{name}-3"},
                "InventoryService_AdjustStock": {"requestId": "", "delta": "1"},
                "OrderService_CreateOrder": {"userId": user, "items": items, "paymentMethod": ""},
                "OrderService_CancelOrder": cancel,
            },
        }
        return Things(tokens["accessToken"], known)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer to the admin, which must be good."""
        headers = {"authorization": f"Bearer {self.admin}"}
        response = self._client.request(method, path, json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()

    def answered(self) -> Counter[str]:
        """How often the gateway has answered each operation with 200."""
        text = self._client.get("/metrics").text
        found = re.findall(
            r'^shop_gateway_requests_total{rpc="/.*\.(\w+)/(\w+)",status="200"} (.*)$', text, re.MULTILINE
        )
        return Counter({f"{service}_{rpc}": int(float(count)) for service, rpc, count in found})

    def operations(self) -> set[str]:
        """Those of the document, by their ids."""
        paths = self._client.get("/openapi.json").json()["paths"]
        return {operation["operationId"] for path in paths.values() for operation in path.values()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop for these tests alone: they leave it full of nonsense, and ask too often for a rate limit."""
    data = tmp_path_factory.mktemp("openapi") / "data"
    variables = {"SHOP_GATEWAY_RATE": "0", "SHOP_ACCESS_TTL": str(ACCESS_TTL), "SHOP_LEASE_TTL": str(LEASE_TTL)}
    running = RunningShop(data, "--replicas", "1", **variables)
    try:
        with httpx.Client(base_url=running.start().gateway, timeout=20) as client:
            yield Shop(running, client)
    finally:
        running.kill()


def check(shop: Shop, things: Things, token: str, work: Path, *phases: str) -> None:
    """Run phases of schemathesis (all of them if none is named) with this token, or none.

    Fails, with the report, if it finds anything.
    """
    if token:
        (work / "schemathesis.toml").write_text(f'[auth.openapi.accessToken]\nbearer = "{token}"\n')
    command = [
        *(str(BIN / "st"), "run", f"{shop.running.gateway}/openapi.json"),
        *("--exclude-checks", NOT_CHECKED, "--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        *("--workers", "1", "--request-timeout", "20", "--continue-on-failure"),
        *(("--phases", ",".join(phases)) if phases else ()),
    ]
    environment = {
        **ENVIRONMENT,
        "KNOWN": json.dumps(things.known),
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks",
    }
    result = subprocess.run(
        command, env=environment, cwd=work, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "unhandled_exception" not in shop.running.errors()


def test_an_admin_is_answered_as_documented(shop: Shop, tmp_path: Path) -> None:
    """No 5xx, and no status, header or body that the document does not have; each operation was answered with 200."""
    things, before = shop.things(), shop.answered()
    check(shop, things, shop.admin, tmp_path)
    assert shop.operations() - (shop.answered() - before).keys() == set()


def test_a_customer_is_answered_as_documented(shop: Shop, tmp_path: Path) -> None:
    """The same for somebody who may do a part of it, and so is refused the rest."""
    things = shop.things()
    check(shop, things, things.customer, tmp_path, "coverage", "fuzzing")


def test_anybody_is_answered_as_documented(shop: Shop, tmp_path: Path) -> None:
    """The same without a token."""
    check(shop, shop.things(), "", tmp_path, "coverage", "fuzzing")
