"""Bad requests, and users or products that are away: a precise status, and nothing half-done.

None of it depends on the database, so it is shown over one.
"""

from __future__ import annotations

import asyncio

import grpc
import pytest

from shop.order.v1 import order_pb2 as pb
from shop.product.v1 import product_pb2
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.interceptor import Context, Handler
from tests.integration.order.shop import Shop, create_product, served, violations

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


async def test_a_request_id_with_other_content_is_refused(shop: Shop) -> None:
    """`request_id` is the field that is wrong."""
    await shop.create(pen=3)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.create(pen=4)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(refused.value) == ["request_id"]


async def test_unknown_products_are_all_named(shop: Shop) -> None:
    """Each by its place in the request; nothing is recorded."""
    request = shop.request(pen=1)
    for product_id in ("gone", "lost"):
        request.items.add(product_id=product_id, quantity=1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.orders.CreateOrder(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(refused.value) == ["items[1].product_id", "items[2].product_id"]
    assert await shop.all() == []


async def test_currencies_are_not_mixed(shop: Shop) -> None:
    """The refusal names the items and the currencies."""
    request = shop.request(pen=1)
    request.items.add(product_id=await create_product(shop.registry, shop.settings, "Gum", 100, "USD"), quantity=1)
    with pytest.raises(grpc.aio.AioRpcError, match="several currencies: EUR, USD") as refused:
        await shop.orders.CreateOrder(request)
    assert violations(refused.value) == ["items"]


async def test_an_unknown_user_is_a_failed_precondition(shop: Shop) -> None:
    """The message names the user."""
    request = shop.request()
    request.user_id = "nobody"
    with pytest.raises(grpc.aio.AioRpcError, match="there is no user 'nobody'") as refused:
        await shop.orders.CreateOrder(request)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_broken_fields_are_named(shop: Shop) -> None:
    """The rules of the proto are kept, by name."""
    request = pb.CreateOrderRequest(user_id="ann", items=[pb.CreateOrderItem(product_id="pen", quantity=0)])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.orders.CreateOrder(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations(refused.value)) == ["items[0].quantity", "request_id"]
    twice = shop.request()
    twice.items.add(product_id=shop.pen, quantity=2)
    with pytest.raises(grpc.aio.AioRpcError, match="each product may appear only once"):
        await shop.orders.CreateOrder(twice)


@pytest.mark.parametrize("service", ["users", "catalog"])
async def test_without_users_or_products_nothing_is_recorded(shop: Shop, service: str) -> None:
    """The caller is told which service cannot be asked, and may try again."""
    await getattr(shop, service).aclose()
    with pytest.raises(grpc.aio.AioRpcError, match="service cannot be asked") as failed:
        await shop.create()
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await shop.all() == []


async def test_a_deadline_holds_for_the_calls_that_are_made_to_answer(shop: Shop) -> None:
    """A catalog that hangs gets the caller's deadline, and the caller is not kept waiting beyond it."""
    await shop.catalog.aclose()
    given: list[float] = []

    async def hang(_request: product_pb2.BatchGetProductsRequest, context: Context) -> None:
        given.append(context.time_remaining() or 0)
        await asyncio.Event().wait()

    def add(server: grpc.aio.Server) -> None:
        handler: Handler = grpc.unary_unary_rpc_method_handler(hang, product_pb2.BatchGetProductsRequest.FromString)
        name = "shop.product.v1.ProductService"
        server.add_registered_method_handlers(name, {"BatchGetProducts": handler})

    authority = Authority.open(shop.settings, "product")
    app = App("product", {"shop.product.v1.ProductService": add}, authority=authority)
    async with served(app, shop.registry):
        async with asyncio.timeout(60):
            while not given:  # a machine that stands still for a second asks no catalog
                with pytest.raises(grpc.aio.AioRpcError) as late:
                    await shop.orders.CreateOrder(shop.request(), timeout=1)
                assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert max(given) < 2  # gRPC rounds up
    assert await shop.all() == []


async def test_a_page_token_of_another_list_is_refused(shop: Shop) -> None:
    """The token is bound to its filters."""
    for i in range(2):
        await shop.create(f"r{i}")
    token = (await shop.orders.ListOrders(pb.ListOrdersRequest(page_size=1))).next_page_token
    for wrong in (pb.ListOrdersRequest(user_id=shop.ann, page_token=token), pb.ListOrdersRequest(page_token="x")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shop.orders.ListOrders(wrong)
        assert violations(refused.value) == ["page_token"]


async def test_an_old_etag_is_aborted_and_an_unknown_order_not_found(shop: Shop) -> None:
    """Two different answers for two different mistakes."""
    order = await shop.create()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.orders.CancelOrder(pb.CancelOrderRequest(order_id=order.id, etag="old"))
    assert refused.value.code() is grpc.StatusCode.ABORTED
    for call in (
        shop.orders.GetOrder(pb.GetOrderRequest(order_id="nothing")),
        shop.orders.CancelOrder(pb.CancelOrderRequest(order_id="nothing")),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="there is no order 'nothing'") as missing:
            await call
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
