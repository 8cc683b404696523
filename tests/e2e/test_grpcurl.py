"""Every service by the real grpcurl, at addresses that meshctl prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from shop_services.messaging.bus import TOPICS
from tests.e2e.buying import status, uncharged
from tests.e2e.running_shop import RunningShop

SERVICES = {
    "user": ["shop.user.v1.UserService"],
    "product": ["shop.product.v1.InventoryService", "shop.product.v1.ProductService"],
    "order": ["shop.order.v1.OrderService"],
    "payment": ["shop.payment.v1.PaymentService", "shop.payment.v1.PaymentSimulatorService"],
    "cache": ["shop.cache.v1.CacheService"],
}
COMMON = ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
STREAMS = {"shop.product.v1.ProductService.WatchProducts", "shop.order.v1.OrderService.WatchOrder"}


@dataclass
class Client:
    """Calls RPCs by grpcurl, each service at one of its addresses, and remembers which it called.

    It takes either name of a field, that of the proto and that of its JSON, and prints the latter.
    """

    shop: RunningShop
    address: dict[str, str]
    called: set[str] = field(default_factory=set)

    def __call__(self, method: str, **request: Any) -> Any:
        service = method.split(".")[1]
        self.called.add(method)
        path = "/".join(method.rsplit(".", 1))
        return json.loads(self.shop.grpcurl("-d", json.dumps(request), self.address[service], path))


@pytest.fixture
def client(shop: RunningShop) -> Client:
    # Not the gateway, which speaks HTTP, nor workers, which nobody calls.
    return Client(shop, {i["service"]: i["address"] for i in shop.instances() if i["service"] in SERVICES})


def mask(*fields: str) -> dict[str, list[str]]:
    """A FieldMask as grpcurl 1.8 wants it; protobuf's own JSON is one string."""
    return {"paths": list(fields)}


def methods(shop: RunningShop, address: str) -> Iterator[tuple[str, bool]]:
    """Every RPC of the shop at an address, as reflection has it, and whether it is a stream."""
    for service in shop.grpcurl(address, "list").split():
        if service.startswith("shop."):
            described = shop.grpcurl(address, "describe", service)
            for name, request, response in re.findall(r"rpc (\w+) \((.*?)\) returns \((.*?)\)", described):
                yield f"{service}.{name}", "stream" in request + response


@pytest.mark.parametrize("service", SERVICES)
def test_every_instance_lists_its_services(shop: RunningShop, service: str) -> None:
    """`grpcurl ADDR list` shows the service, health and reflection on each of its instances, which are two or more."""
    instances = shop.instances(service)
    assert len({instance["address"] for instance in instances}) >= 2
    for instance in instances:
        assert shop.grpcurl(instance["address"], "list").split() == sorted([*COMMON, *SERVICES[service]])
        health = json.loads(shop.grpcurl(instance["address"], "grpc.health.v1.Health/Check"))
        assert health == {"status": "SERVING"}


@pytest.mark.parametrize("topic", TOPICS)
def test_every_worker_tells_its_health(shop: RunningShop, topic: str) -> None:
    """Each topic has a worker, which is registered and answers health checks, and nothing else."""
    (worker,) = shop.instances(f"{topic}-worker")
    assert shop.grpcurl(worker["address"], "list").split() == COMMON
    health = json.loads(shop.grpcurl(worker["address"], "grpc.health.v1.Health/Check"))
    assert health == {"status": "SERVING"}


def test_describes_a_message(client: Client) -> None:
    """`grpcurl ADDR describe` shows the fields of a message."""
    text = client.shop.grpcurl(client.address["order"], "describe", "shop.order.v1.CreateOrderRequest")
    assert re.search(r"string request_id = 1\b", text)


def test_describes_every_method(client: Client) -> None:
    """`grpcurl ADDR describe` shows a service, and each of its methods by its full name."""
    for service, address in client.address.items():
        for method, _ in methods(client.shop, address):
            name = method.rpartition(".")[2]
            assert f"rpc {name} (" in client.shop.grpcurl(address, "describe", method), service


def test_every_unary_rpc_works(client: Client) -> None:
    """Every unary RPC that reflection knows answers a valid request with what it promises."""
    users(client)
    product = products(client)
    inventory(client, product)
    orders(client, product)
    payments(client)
    cache(client)

    assert client.address.keys() == SERVICES.keys()
    known = {method: stream for address in client.address.values() for method, stream in methods(client.shop, address)}
    assert {method for method, stream in known.items() if stream} == STREAMS
    assert client.called == known.keys() - STREAMS


def users(client: Client) -> None:
    rpc, name = "shop.user.v1.UserService.", f"u{uuid4().hex[:12]}"
    password = "correct horse"
    user = client(f"{rpc}CreateUser", email=f"{name}@shop.example", username=name, password=password)["user"]
    assert user["username"] == name
    assert client(f"{rpc}GetUser", user_id=user["id"])["user"] == user
    login = client(f"{rpc}Login", login=name, password=password)
    assert login["user"]["id"] == user["id"]
    tokens = client(f"{rpc}RefreshTokens", refresh_token=login["tokens"]["refreshToken"])["tokens"]
    assert tokens["refreshToken"] != login["tokens"]["refreshToken"]
    assert client(f"{rpc}Logout", refresh_token=tokens["refreshToken"]) == {}
    change = {"id": user["id"], "display_name": "Grace", "etag": user["etag"]}
    assert client(f"{rpc}UpdateUser", user=change, update_mask=mask("display_name"))["user"]["displayName"] == "Grace"
    assert any(listed["id"] == user["id"] for listed in client(f"{rpc}ListUsers", page_size=1000)["users"])
    assert client(f"{rpc}DeleteUser", user_id=user["id"]) == {}


def products(client: Client) -> dict[str, Any]:
    rpc, sku = "shop.product.v1.ProductService.", uuid4().hex
    price = {"currencyCode": "EUR", "units": "12", "nanos": 500000000}
    new = {"sku": sku, "name": "Kettle", "category": "e2e", "price": price, "initial_stock": "5"}
    product: dict[str, Any] = client(f"{rpc}CreateProduct", **new)["product"]
    assert product["price"] == price
    assert client(f"{rpc}GetProduct", product_id=product["id"])["product"] == product
    found = client(f"{rpc}BatchGetProducts", product_ids=[product["id"], "none"])
    assert found == {"products": [product], "missingProductIds": ["none"]}
    assert product in client(f"{rpc}ListProducts", category="e2e", page_size=1000)["products"]
    change = {"id": product["id"], "name": "Teapot", "etag": product["etag"]}
    changed = client(f"{rpc}UpdateProduct", product=change, update_mask=mask("name"))["product"]
    assert changed["name"] == "Teapot"
    other = client(f"{rpc}CreateProduct", **{**new, "sku": uuid4().hex})["product"]
    assert client(f"{rpc}DeleteProduct", product_id=other["id"]) == {}
    return dict(changed)


def inventory(client: Client, product: dict[str, Any]) -> None:
    rpc, items = "shop.product.v1.InventoryService.", [{"product_id": product["id"], "quantity": "2"}]
    stock = client(f"{rpc}GetStock", product_id=product["id"])["stock"]
    assert stock == {"productId": product["id"], "available": "5"}
    assert client(f"{rpc}AdjustStock", product_id=product["id"], delta="3")["stock"]["available"] == "8"
    kept, returned = uuid4().hex, uuid4().hex
    for order in (kept, returned):
        reservation = client(f"{rpc}ReserveStock", order_id=order, items=items)["reservation"]
        assert reservation["state"] == "RESERVATION_STATE_RESERVED"
    assert client(f"{rpc}CommitStock", order_id=kept)["reservation"]["state"] == "RESERVATION_STATE_COMMITTED"
    assert client(f"{rpc}ReleaseStock", order_id=returned)["reservation"]["state"] == "RESERVATION_STATE_RELEASED"
    stock = client(f"{rpc}GetStock", product_id=product["id"])["stock"]
    assert stock == {"productId": product["id"], "available": "6", "committed": "2"}


def orders(client: Client, product: dict[str, Any]) -> None:
    rpc, name = "shop.order.v1.OrderService.", f"u{uuid4().hex[:12]}"
    user = client(
        "shop.user.v1.UserService.CreateUser", email=f"{name}@x.example", username=name, password="long enough"
    )
    wanted = {
        "request_id": uuid4().hex,
        "user_id": user["user"]["id"],
        "items": [{"product_id": product["id"], "quantity": "2"}],
    }
    order = client(f"{rpc}CreateOrder", **wanted)["order"]
    assert order["total"] == {"currencyCode": "EUR", "units": "25"}
    assert client(f"{rpc}CreateOrder", **wanted)["order"]["id"] == order["id"]
    seen = client(f"{rpc}GetOrder", order_id=order["id"])["order"]
    assert (seen["items"], seen["history"][0]["status"]) == (order["items"], "ORDER_STATUS_PENDING")
    assert [o["id"] for o in client(f"{rpc}ListOrders", user_id=order["userId"])["orders"]] == [order["id"]]
    with uncharged(client.shop):
        order = client(f"{rpc}CreateOrder", **{**wanted, "request_id": uuid4().hex})["order"]
        cancelled = client(f"{rpc}CancelOrder", order_id=order["id"], reason="no reason")["order"]
    assert cancelled["status"] == "ORDER_STATUS_CANCELLED"


def payments(client: Client) -> None:
    rpc, key, amount = "shop.payment.v1.PaymentService.", uuid4().hex, {"currencyCode": "EUR", "units": "25"}
    authorized = client(f"{rpc}AuthorizePayment", key=key, amount=amount, payment_method="pm_card_visa")["payment"]
    assert authorized["state"] == "PAYMENT_STATE_AUTHORIZED"
    assert client(f"{rpc}CapturePayment", key=key)["payment"]["netCharge"] == amount
    refunded = client(f"{rpc}RefundPayment", key=key)["payment"]
    states = [entry["state"].rpartition("_")[2] for entry in refunded["entries"]]
    assert states == ["AUTHORIZED", "CAPTURED", "REFUNDED"]
    assert client(f"{rpc}GetPayment", key=key)["payment"] == refunded
    assert refunded in client(f"{rpc}ListPayments", page_size=1000)["payments"]
    simulator = "shop.payment.v1.PaymentSimulatorService."
    assert client(f"{simulator}SetFaults", faults={"delay": "0.001s"})["faults"] == {"delay": "0.001s"}
    assert client(f"{simulator}GetFaults")["faults"] == {"delay": "0.001s"}
    client(f"{simulator}SetFaults")


def cache(client: Client) -> None:
    rpc, space = "shop.cache.v1.CacheService.", {"namespace": "sessions"}
    version = client(f"{rpc}Set", **space, key="a/b", value="AAEC", ttl="60s")["version"]
    assert client(f"{rpc}Get", **space, key="a/b")["entry"]["value"] == "AAEC"
    swap = {"key": "a/b", "value": "AAED", "expected_version": version}
    swapped = client(f"{rpc}CompareAndSet", **space, **swap)
    assert swapped["swapped"] is True
    assert client(f"{rpc}CompareAndSet", **space, **swap) == {"version": swapped["version"]}
    assert len(client(f"{rpc}BatchSet", **space, items=[{"key": "c", "value": "AA=="}, {"key": "d"}])["versions"]) == 2
    found = client(f"{rpc}BatchGet", **space, keys=["d", "none", "c"])
    assert [entry["key"] for entry in found["entries"]] == ["d", "c"]
    assert found["missingKeys"] == ["none"]
    assert client(f"{rpc}Delete", **space, key="d") == {"deleted": True}
    assert client(f"{rpc}BatchDelete", **space, keys=["c", "d"]) == {"removed": "1"}
    (stats,) = client(f"{rpc}GetStats", **space)["namespaces"]
    assert (stats["namespace"], stats["policy"]) == ("sessions", "EVICTION_POLICY_LRU")
    assert client(f"{rpc}Clear", **space) == {"removed": "1"}


def test_a_stream_prints_changes_made_elsewhere(client: Client) -> None:
    """WatchProducts at one instance prints what is done at another, as it is done, and in that order."""
    shop = client.shop
    here, there = (instance["address"] for instance in shop.instances("product")[:2])
    rpc = "shop.product.v1.ProductService/"
    price = {"currency_code": "EUR", "units": "3"}
    category = f"c{uuid4().hex}"

    def create() -> dict[str, Any]:
        new = {"sku": uuid4().hex, "name": "Cup", "category": category, "price": price}
        return dict(json.loads(shop.grpcurl("-d", json.dumps(new), there, f"{rpc}CreateProduct"))["product"])

    first = create()
    listed = json.loads(shop.grpcurl("-d", json.dumps({"category": category}), here, f"{rpc}ListProducts"))
    assert listed["products"] == [first]
    # From the catalog's first change on: no change is missed, however late the stream begins.
    watch = json.dumps({"category": category, "after_revision": 1})
    with shop.streaming("-d", watch, here, f"{rpc}WatchProducts") as changes:
        created = create()
        change = {"product": {"id": created["id"], "name": "Mug"}, "update_mask": mask("name")}
        shop.grpcurl("-d", json.dumps(change), there, f"{rpc}UpdateProduct")
        shop.grpcurl("-d", json.dumps({"product_id": created["id"]}), there, f"{rpc}DeleteProduct")
        assert next(changes)["product"] == first
        seen = [next(changes) for _ in range(3)]
    assert [change["type"].removeprefix("PRODUCT_CHANGE_TYPE_") for change in seen] == ["CREATED", "UPDATED", "DELETED"]
    assert [change["product"]["name"] for change in seen] == ["Cup", "Mug", "Mug"]
    revisions = [int(change["revision"]) for change in seen]
    assert revisions == sorted(set(revisions))


def test_a_watched_order_ends_with_its_stream(client: Client) -> None:
    """WatchOrder prints the order as it is and as it goes on, its cancellation through another instance, and ends."""
    shop = client.shop
    here, there = (instance["address"] for instance in shop.instances("order")[:2])
    product = products(client)
    name = f"u{uuid4().hex[:12]}"
    user = client(
        "shop.user.v1.UserService.CreateUser", email=f"{name}@x.example", username=name, password="long enough"
    )
    items = [{"product_id": product["id"], "quantity": "1"}]
    wanted = {"request_id": name, "user_id": user["user"]["id"], "items": items}
    with uncharged(shop):
        order = client("shop.order.v1.OrderService.CreateOrder", **wanted)
        request = json.dumps({"order_id": order["order"]["id"]})
        with shop.streaming("-d", request, here, "shop.order.v1.OrderService/WatchOrder") as versions:
            statuses = [status(next(versions)["order"])]
            shop.grpcurl("-d", request, there, "shop.order.v1.OrderService/CancelOrder")
            statuses += [status(version["order"]) for version in versions]
    assert statuses[-1] == "CANCELLED"
    assert statuses[:-1] in (["PENDING"], ["PENDING", "PROCESSING"], ["PROCESSING"])
