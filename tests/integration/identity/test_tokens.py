"""A token that is no good opens nothing, not even what is open to everybody: at every service, and at the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import jwt
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shop.cache.v1 import cache_pb2
from shop.order.v1 import order_pb2
from shop.payment.v1 import payment_pb2
from shop.product.v1 import product_pb2
from shop.user.v1 import user_pb2
from shop_services.runtime.identity.authority import bearer
from tests.integration.identity.calling import OK, ROUTES, by_grpc, by_http, served_by
from tests.integration.identity.forging import Forger
from tests.integration.identity.shop import Metadata, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS: dict[str, Message] = {
    "ProductService.ListProducts": product_pb2.ListProductsRequest(),
    "ProductService.WatchProducts": product_pb2.WatchProductsRequest(after_revision=1),
    "UserService.ListUsers": user_pb2.ListUsersRequest(),
    "OrderService.ListOrders": order_pb2.ListOrdersRequest(),
    "CacheService.GetStats": cache_pb2.GetStatsRequest(),
    "PaymentSimulatorService.GetFaults": payment_pb2.GetFaultsRequest(),
}
"""An RPC of each service; the first two are open to everybody."""

INVALID, EXPIRED = "UNAUTHENTICATED TOKEN_INVALID", "UNAUTHENTICATED TOKEN_EXPIRED"

ODD: dict[str, Metadata] = {
    "another scheme": (("authorization", "Basic Ym9zczpib3Nz"),),
    "no scheme": (("authorization", "token"),),
    "nothing": (("authorization", ""),),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_service_refuses_it(shop: Shop, name: str) -> None:
    """The answer does not say what was wrong with it, but for one that was good once."""
    forger = Forger(shop, served_by(name))
    assert await by_grpc(shop, name, CALLS[name], bearer(forger.good())) == OK
    assert await by_grpc(shop, name, CALLS[name], bearer(forger.expired())) == EXPIRED
    bad = {**{what: bearer(text) for what, text in forger.all().items()}, **ODD}
    bad["a good one and another"] = (*bearer(forger.good()), *bearer(forger.good()))
    ends = {what: await by_grpc(shop, name, CALLS[name], metadata) for what, metadata in bad.items()}
    assert ends == dict.fromkeys(bad, INVALID)


@pytest.mark.parametrize("name", [name for name in CALLS if name in ROUTES])
async def test_the_gateway_refuses_it(shop: Shop, name: str) -> None:
    """With 401, and the challenge that goes with it."""
    forger = Forger(shop, "gateway")
    assert await by_http(shop, name, CALLS[name], bearer(forger.good())) == OK
    assert await by_http(shop, name, CALLS[name], bearer(forger.expired())) == EXPIRED
    bad = {**{what: bearer(text) for what, text in forger.all().items()}, **ODD}
    bad["of a service, for the gateway"] = shop.service("order", "gateway")
    ends = {what: await by_http(shop, name, CALLS[name], metadata) for what, metadata in bad.items()}
    assert ends == dict.fromkeys(bad, INVALID)


async def test_the_gateway_refuses_it_before_anything_else(shop: Shop) -> None:
    """Before a path that is none, a method that is wrong, a body that is no JSON, and its own pages."""
    headers = dict(bearer(Forger(shop, "gateway").all()["forged"]))
    answers = [
        await shop.http.get("/nowhere", headers=headers),
        await shop.http.delete("/v1/products", headers=headers),
        await shop.http.post("/v1/users", headers=headers, content=b"{"),
        await shop.http.post("/v1/users:login", headers=headers, json={}),
        await shop.http.get("/openapi.json", headers=headers),
        await shop.http.get("/v1/orders/o1:watch", headers={**headers, "accept": "text/event-stream"}),
    ]
    assert [answer.status_code for answer in answers] == [401] * len(answers)
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Bearer error="invalid_token"'}
    assert {answer.json()["message"] for answer in answers} == {"the token is not valid"}
    assert all(answer.headers["x-request-id"] in answer.text for answer in answers)


async def test_the_gateway_refuses_two(shop: Shop) -> None:
    """Two headers, or one that names it as metadata: nobody is to look at one, and another at the other."""
    good = bearer(Forger(shop, "gateway").good())[0]
    twice: Sequence[tuple[str, str]] = (good, good)
    assert (await shop.http.get("/v1/orders", headers=[*twice])).status_code == 401
    smuggled = {"grpc-metadata-authorization": good[1]}
    assert (await shop.http.get("/v1/orders", headers=smuggled)).status_code == 400


async def test_the_published_keys_check_what_the_shop_signs(shop: Shop) -> None:
    """Whoever wants to check an access token finds the key there, by the id that the token has; and no private part."""
    answer = await shop.http.get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=10"
    (key,) = answer.json()["keys"]
    assert set(key) == {"kty", "crv", "use", "alg", "kid", "x"}
    forger = Forger(shop, "gateway")
    found = jwt.decode(forger.good(), jwt.PyJWK(key), algorithms=["EdDSA"], audience="shop")
    assert found["sub"] == "boss"
    assert key["kid"] == jwt.get_unverified_header(forger.good())["kid"]


async def test_health_and_reflection_need_no_token(shop: Shop) -> None:
    """Whoever looks after the servers is nobody in the shop."""
    for channel in shop.channels.values():
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_method_that_is_none_is_refused(shop: Shop) -> None:
    """By gRPC's own answer, whoever calls."""
    call: Any = shop.channels["user"].unary_unary("/shop.user.v1.UserService/Everything")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", metadata=shop.operator())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
