"""For each RPC a request that succeeds for who may make it; where it is about a customer's own, it is Ann's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.message import Message
from google.type.money_pb2 import Money

from shop.cache.v1 import cache_pb2 as cache
from shop.order.v1 import order_pb2 as order
from shop.payment.v1 import payment_pb2 as payment
from shop.product.v1 import inventory_pb2 as inventory
from shop.product.v1 import product_pb2 as product
from shop.user.v1 import user_pb2 as user
from tests.integration.identity.calling import answer_by_grpc
from tests.integration.identity.shop import PASSWORD, Shop

PRICE = Money(currency_code="EUR", units=2)
KEPT = "sessions"  # a namespace of the cache that nothing else uses

Made = tuple[Message, str]
"""A request, and the customer whose own it is about."""


async def _create_user(shop: Shop) -> Made:
    name = shop.new_name()
    return user.CreateUserRequest(email=f"{name}@shop.example", username=name, password=PASSWORD), shop.ann


async def _delete_user(shop: Shop) -> Made:
    owner = await shop.new_user()
    return user.DeleteUserRequest(user_id=owner), owner


async def _update_user(shop: Shop) -> Made:
    return user.UpdateUserRequest(user=user.User(id=shop.ann, display_name=shop.new_name())), shop.ann


async def _logged_in(shop: Shop) -> user.LoginResponse:
    name = shop.new_name()
    await shop.users.CreateUser(user.CreateUserRequest(email=f"{name}@shop.example", username=name, password=PASSWORD))
    response: user.LoginResponse = await shop.users.Login(user.LoginRequest(login=name, password=PASSWORD))
    return response


async def _login(shop: Shop) -> Made:
    username = (await _logged_in(shop)).user.username
    return user.LoginRequest(login=username, password=PASSWORD), shop.ann


async def _refresh(shop: Shop) -> Made:
    token = (await _logged_in(shop)).tokens.refresh_token
    return user.RefreshTokensRequest(refresh_token=token), shop.ann


async def _logout(shop: Shop) -> Made:
    token = (await _logged_in(shop)).tokens.refresh_token
    return user.LogoutRequest(refresh_token=token), shop.ann


async def _create_product(shop: Shop) -> Made:
    name = shop.new_name()
    return product.CreateProductRequest(sku=name, name=name, category="office", price=PRICE), shop.ann


async def _update_product(shop: Shop) -> Made:
    change = product.Product(id=shop.pens, description=shop.new_name())
    return product.UpdateProductRequest(product=change), shop.ann


async def _delete_product(shop: Shop) -> Made:
    return product.DeleteProductRequest(product_id=await shop.new_product()), shop.ann


def _one_pen(shop: Shop) -> inventory.ReserveStockRequest:
    items = [inventory.StockItem(product_id=shop.pens, quantity=1)]
    return inventory.ReserveStockRequest(order_id=shop.new_name(), items=items)


async def _reserve(shop: Shop) -> Made:
    return _one_pen(shop), shop.ann


async def _commit(shop: Shop) -> Made:
    reserved = _one_pen(shop)
    await answer_by_grpc(shop, "InventoryService.ReserveStock", reserved, shop.operator())
    return inventory.CommitStockRequest(order_id=reserved.order_id), shop.ann


async def _release(shop: Shop) -> Made:
    return inventory.ReleaseStockRequest(order_id=shop.new_name()), shop.ann


async def _create_order(shop: Shop) -> Made:
    items = [order.CreateOrderItem(product_id=shop.pens, quantity=1)]
    return order.CreateOrderRequest(request_id=shop.new_name(), user_id=shop.ann, items=items), shop.ann


async def _get_order(shop: Shop) -> Made:
    return order.GetOrderRequest(order_id=(await shop.new_order(shop.ann)).id), shop.ann


async def _cancel_order(shop: Shop) -> Made:
    return order.CancelOrderRequest(order_id=(await shop.new_order(shop.ann)).id), shop.ann


async def _watch_order(shop: Shop) -> Made:
    return order.WatchOrderRequest(order_id=(await shop.new_order(shop.ann)).id), shop.ann


async def _authorize(shop: Shop) -> Made:
    return payment.AuthorizePaymentRequest(key=shop.new_name(), amount=PRICE, payment_method="pm_card_visa"), shop.ann


async def _authorized(shop: Shop) -> str:
    request = payment.AuthorizePaymentRequest(key=shop.new_name(), amount=PRICE, payment_method="pm_card_visa")
    await answer_by_grpc(shop, "PaymentService.AuthorizePayment", request, shop.operator())
    return request.key


async def _capture(shop: Shop) -> Made:
    return payment.CapturePaymentRequest(key=await _authorized(shop)), shop.ann


async def _refund(shop: Shop) -> Made:
    return payment.RefundPaymentRequest(key=await _authorized(shop)), shop.ann


async def _get_payment(shop: Shop) -> Made:
    return payment.GetPaymentRequest(key=await _authorized(shop)), shop.ann


async def _compare_and_set(shop: Shop) -> Made:
    return cache.CompareAndSetRequest(namespace=KEPT, key=shop.new_name(), value=b"1"), shop.ann


def _same(make: Callable[[Shop], Message]) -> Callable[[Shop], Awaitable[Made]]:
    """The maker of requests that need no preparation."""

    async def made(shop: Shop) -> Made:
        return make(shop), shop.ann

    return made


MAKERS: Mapping[str, Callable[[Shop], Awaitable[Made]]] = {
    "UserService.CreateUser": _create_user,
    "UserService.GetUser": _same(lambda shop: user.GetUserRequest(user_id=shop.ann)),
    "UserService.UpdateUser": _update_user,
    "UserService.DeleteUser": _delete_user,
    "UserService.ListUsers": _same(lambda _: user.ListUsersRequest()),
    "UserService.Login": _login,
    "UserService.RefreshTokens": _refresh,
    "UserService.Logout": _logout,
    "ProductService.CreateProduct": _create_product,
    "ProductService.GetProduct": _same(lambda shop: product.GetProductRequest(product_id=shop.pens)),
    "ProductService.BatchGetProducts": _same(lambda shop: product.BatchGetProductsRequest(product_ids=[shop.pens])),
    "ProductService.ListProducts": _same(lambda _: product.ListProductsRequest()),
    "ProductService.UpdateProduct": _update_product,
    "ProductService.DeleteProduct": _delete_product,
    "ProductService.WatchProducts": _same(lambda _: product.WatchProductsRequest(after_revision=1)),
    "InventoryService.ReserveStock": _reserve,
    "InventoryService.ReleaseStock": _release,
    "InventoryService.CommitStock": _commit,
    "InventoryService.GetStock": _same(lambda shop: inventory.GetStockRequest(product_id=shop.pens)),
    "InventoryService.AdjustStock": _same(lambda shop: inventory.AdjustStockRequest(product_id=shop.pens, delta=1)),
    "OrderService.CreateOrder": _create_order,
    "OrderService.GetOrder": _get_order,
    "OrderService.ListOrders": _same(lambda shop: order.ListOrdersRequest(user_id=shop.ann)),
    "OrderService.CancelOrder": _cancel_order,
    "OrderService.WatchOrder": _watch_order,
    "CacheService.Get": _same(lambda _: cache.GetRequest(namespace=KEPT, key="k")),
    "CacheService.Set": _same(lambda _: cache.SetRequest(namespace=KEPT, key="k", value=b"1")),
    "CacheService.CompareAndSet": _compare_and_set,
    "CacheService.Delete": _same(lambda _: cache.DeleteRequest(namespace=KEPT, key="k")),
    "CacheService.Clear": _same(lambda _: cache.ClearRequest(namespace=KEPT)),
    "CacheService.BatchGet": _same(lambda _: cache.BatchGetRequest(namespace=KEPT, keys=["k"])),
    "CacheService.BatchSet": _same(
        lambda _: cache.BatchSetRequest(namespace=KEPT, items=[cache.BatchSetItem(key="k", value=b"1")])
    ),
    "CacheService.BatchDelete": _same(lambda _: cache.BatchDeleteRequest(namespace=KEPT, keys=["k"])),
    "CacheService.GetStats": _same(lambda _: cache.GetStatsRequest()),
    "PaymentService.AuthorizePayment": _authorize,
    "PaymentService.CapturePayment": _capture,
    "PaymentService.RefundPayment": _refund,
    "PaymentService.GetPayment": _get_payment,
    "PaymentService.ListPayments": _same(lambda _: payment.ListPaymentsRequest()),
    "PaymentSimulatorService.SetFaults": _same(lambda _: payment.SetFaultsRequest()),
    "PaymentSimulatorService.GetFaults": _same(lambda _: payment.GetFaultsRequest()),
}
