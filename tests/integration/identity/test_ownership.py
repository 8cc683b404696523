"""What is a customer's own is nobody else's, by whatever route it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from shop.order.v1 import order_pb2 as order
from shop.user.v1 import user_pb2 as user
from shop_services.runtime.identity.caller import Role
from tests.integration.gateway.serving import DEADLINE
from tests.integration.identity.calling import OK, ROUTES, answer_by_grpc, as_http, by_grpc, by_http
from tests.integration.identity.shop import PASSWORD, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_YOURS = "PERMISSION_DENIED NOT_YOURS"
NO_SUCH = "NOT_FOUND NOT_FOUND"
STREAMS = ("application/x-ndjson", "text/event-stream")


async def both(shop: Shop, name: str, request: Message, user_id: str) -> set[str]:
    """How a customer's call ends, by gRPC and over HTTP, in every form that a stream has there."""
    metadata = shop.person(user_id)
    ends = {await by_grpc(shop, name, request, metadata)}
    return ends | {await by_http(shop, name, request, metadata, accept) for accept in STREAMS}


def about(order_id: str) -> Mapping[str, Message]:
    """All requests about one order."""
    return {
        "OrderService.GetOrder": order.GetOrderRequest(order_id=order_id),
        "OrderService.WatchOrder": order.WatchOrderRequest(order_id=order_id),
        "OrderService.CancelOrder": order.CancelOrderRequest(order_id=order_id, reason="mine", request_id="c-1"),
    }


async def test_anothers_order_is_as_one_that_is_not(shop: Shop) -> None:
    """By every RPC and route the answer is the same to the byte, but for the ids in it; and nothing has happened."""
    anns = await shop.new_order(shop.ann)
    for name, request in about(anns.id).items():
        assert await both(shop, name, request, shop.bob) == {NO_SUCH}
        said = {await _words(shop, name, wanted, shop.bob) for wanted in (request, _renamed(request))}
        assert len(said) == 1
    found = await _answer(shop, "OrderService.GetOrder", order.GetOrderRequest(order_id=anns.id), shop.ann)
    assert [transition.version for transition in found.order.history] == [1]


async def test_the_owner_and_an_admin_see_it(shop: Shop) -> None:
    """By the same routes."""
    made = await shop.new_order(shop.ann)
    for name in ("OrderService.GetOrder", "OrderService.WatchOrder"):
        request = about(made.id)[name]
        assert await both(shop, name, request, shop.ann) == {OK}
        assert await by_http(shop, name, request, shop.person("boss", Role.ADMIN)) == OK


async def test_a_kept_answer_is_not_given_to_another(shop: Shop) -> None:
    """Who repeats another's cancellation, its request id included, learns nothing of the order."""
    anns = await shop.new_order(shop.ann)
    cancel = order.CancelOrderRequest(order_id=anns.id, reason="too slow", request_id=shop.new_name())
    assert await by_grpc(shop, "OrderService.CancelOrder", cancel, shop.person(shop.ann)) == OK
    assert await both(shop, "OrderService.CancelOrder", cancel, shop.bob) == {NO_SUCH}
    assert await both(shop, "OrderService.CancelOrder", cancel, shop.ann) == {OK}


async def test_a_list_has_ones_own_alone(shop: Shop) -> None:
    """Without a user in it, it is filled in; with another's, it is refused; and pages stay within it."""
    anns = {(await shop.new_order(shop.ann)).id for _ in range(3)}
    bobs = {(await shop.new_order(shop.bob)).id for _ in range(2)}
    name = "OrderService.ListOrders"
    assert await both(shop, name, order.ListOrdersRequest(user_id=shop.ann), shop.bob) == {NOT_YOURS}
    page = await _answer(shop, name, order.ListOrdersRequest(page_size=1000), shop.bob)
    seen = {one.id for one in page.orders}
    assert seen >= bobs
    assert {one.user_id for one in page.orders} == {shop.bob}
    over_http = (await _get(shop, "/v1/orders", shop.bob, pageSize=1000)).json()["orders"]
    assert {one["id"] for one in over_http} == seen
    first = await _answer(shop, name, order.ListOrdersRequest(page_size=1), shop.ann)
    assert first.orders[0].id in anns
    continued = order.ListOrdersRequest(page_size=1, page_token=first.next_page_token)
    assert await both(shop, name, continued, shop.bob) == {"INVALID_ARGUMENT INVALID_ARGUMENT"}
    everybodys = await answer_by_grpc(shop, name, order.ListOrdersRequest(page_size=1000), shop.operator())
    assert {one.id for one in everybodys.orders} >= anns | bobs


async def test_nobody_orders_for_another(shop: Shop) -> None:
    """Nor takes over another's order by its request id."""
    items = [order.CreateOrderItem(product_id=shop.pens, quantity=1)]
    name = "OrderService.CreateOrder"
    request = order.CreateOrderRequest(request_id=shop.new_name(), user_id=shop.ann, items=items)
    assert await both(shop, name, request, shop.bob) == {NOT_YOURS}
    assert await by_grpc(shop, name, request, shop.person(shop.ann)) == OK
    request.user_id = ""
    assert await both(shop, name, request, shop.bob) == {"INVALID_ARGUMENT INVALID_ARGUMENT"}
    request.request_id = shop.new_name()
    assert (await _answer(shop, name, request, shop.bob)).order.user_id == shop.bob


async def test_an_account_is_its_owners(shop: Shop) -> None:
    """Seen, changed and closed by nobody else, wherever its id is put; and whether there is one is not told."""
    change = user.User(id=shop.ann, display_name="Eve")
    for name, request in (
        ("UserService.GetUser", user.GetUserRequest(user_id=shop.ann)),
        ("UserService.GetUser", user.GetUserRequest(user_id="nobody")),
        ("UserService.UpdateUser", user.UpdateUserRequest(user=change)),
        ("UserService.UpdateUser", user.UpdateUserRequest(user=change, update_mask=FieldMask(paths=["display_name"]))),
        ("UserService.DeleteUser", user.DeleteUserRequest(user_id=shop.ann)),
    ):
        assert await both(shop, name, request, shop.bob) == {NOT_YOURS}
    body = {"id": shop.ann, "displayName": "Eve"}
    headers = dict(shop.person(shop.bob))
    in_the_body = await shop.http.patch(f"/v1/users/{shop.bob}", headers=headers, json=body)
    in_the_query = await _get(shop, f"/v1/users/{shop.bob}", shop.bob, userId=shop.ann)
    assert [in_the_body.status_code, in_the_query.status_code] == [400, 400]
    anns = await _answer(shop, "UserService.GetUser", user.GetUserRequest(user_id=shop.ann), shop.ann)
    assert anns.user.display_name != "Eve"


async def test_a_watch_over_http_is_ones_own(shop: Shop) -> None:
    """Ann's stream tells of her order's end; Bob's ends before it begins, with the status of HTTP that says so."""
    made = await shop.new_order(shop.ann)
    path = f"/v1/orders/{made.id}:watch"
    for accept in STREAMS:
        answer = await _get(shop, path, shop.bob, accept)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
        assert made.total.currency_code not in answer.text
    headers = {**dict(shop.person(shop.ann)), "accept": STREAMS[0]}
    async with asyncio.timeout(DEADLINE), shop.http.stream("GET", path, headers=headers) as response:
        lines = response.aiter_lines()
        assert made.id in await anext(lines)
        cancel = order.CancelOrderRequest(order_id=made.id)
        await answer_by_grpc(shop, "OrderService.CancelOrder", cancel, shop.person(shop.ann))
        assert "ORDER_STATUS_CANCELLED" in await anext(lines)
        assert [line async for line in lines] == []


async def test_a_login_over_http_sees_its_own_and_nothing_else(shop: Shop) -> None:
    """The whole way of two customers who sign up, log in, order, and try to see each other's."""
    people = []
    for name in (shop.new_name(), shop.new_name()):
        body = {"email": f"{name}@shop.example", "username": name, "password": PASSWORD}
        made = (await shop.http.post("/v1/users", json=body)).json()["user"]
        assert made["role"] == "ROLE_CUSTOMER"
        answer = (await shop.http.post("/v1/users:login", json={"login": name, "password": PASSWORD})).json()
        tokens = answer["tokens"]
        headers = {"authorization": f"Bearer {tokens['accessToken']}"}
        placed = await shop.http.post(
            "/v1/orders",
            headers=headers,
            json={"requestId": shop.new_name(), "items": [{"productId": shop.pens, "quantity": "1"}]},
        )
        assert placed.status_code == 200, placed.text
        assert placed.json()["order"]["userId"] == made["id"]
        people.append((headers, placed.json()["order"]["id"], tokens["refreshToken"]))
    (anns, anns_order, refresh), (bobs, bobs_order, _) = people
    assert (await shop.http.get(f"/v1/orders/{anns_order}", headers=anns)).status_code == 200
    for headers, other in ((anns, bobs_order), (bobs, anns_order)):
        assert (await shop.http.get(f"/v1/orders/{other}", headers=headers)).status_code == 404
        assert (await shop.http.post(f"/v1/orders/{other}:cancel", headers=headers, json={})).status_code == 404
    renewed = (await shop.http.post("/v1/users:refresh", json={"refreshToken": refresh})).json()["tokens"]
    headers = {"authorization": f"Bearer {renewed['accessToken']}"}
    assert (await shop.http.get(f"/v1/orders/{anns_order}", headers=headers)).status_code == 200
    out = {"refreshToken": renewed["refreshToken"]}
    assert (await shop.http.post("/v1/users:logout", json=out)).json() == {}
    assert (await shop.http.post("/v1/users:refresh", json=out)).status_code == 401


async def _answer(shop: Shop, name: str, request: Message, user_id: str) -> Any:
    return await answer_by_grpc(shop, name, request, shop.person(user_id))


async def _get(shop: Shop, path: str, user_id: str, accept: str = "*/*", **query: object) -> httpx.Response:
    headers = {**dict(shop.person(user_id)), "accept": accept}
    return await shop.http.get(path, headers=headers, params={name: str(value) for name, value in query.items()})


async def _words(shop: Shop, name: str, request: Any, user_id: str) -> str:
    """All that a failed call tells, by gRPC and over HTTP, but for the id that was asked for and the request's own."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _answer(shop, name, request, user_id)
    method, url, options = as_http(ROUTES[name], request)
    answer = await shop.http.request(method, url, headers=dict(shop.person(user_id)), **options)
    text = f"{caught.value.code()} {caught.value.details()} {answer.status_code} {answer.text}"
    return text.replace(request.order_id, "ID").replace(answer.headers["x-request-id"], "REQUEST")


def _renamed(request: Any) -> Any:
    """The same request about an order that does not exist."""
    other = type(request)()
    other.CopyFrom(request)
    other.order_id = "f" * len(request.order_id)
    return other
