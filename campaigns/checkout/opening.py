"""Opens the shop for the campaign: the accounts and the catalog that the plan names by number."""

from __future__ import annotations

from collections.abc import Sequence

from google.type.money_pb2 import Money

from campaigns.checkout.plan import USERS, Product
from grpc_registry import Registry
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.settings import Settings

_TIMEOUT = 20.0
_NANOS_PER_HUNDREDTH = 10_000_000


async def open_accounts(registry: Registry, settings: Settings) -> list[str]:
    """The ids of the new users."""
    async with operator_channel("user", registry, settings) as channel:
        stub = UserServiceStub(channel)
        users = []
        for number in range(USERS):
            name = f"shopper-{number}"
            request = user_pb2.CreateUserRequest(
                request_id=name, email=f"{name}@example.com", username=name, password=f"of shopper {number}"
            )
            answer: user_pb2.CreateUserResponse = await stub.CreateUser(request, timeout=_TIMEOUT)
            users.append(answer.user.id)
        return users


async def fill_catalog(registry: Registry, settings: Settings, products: Sequence[Product]) -> list[str]:
    """The ids of the new products."""
    async with operator_channel("product", registry, settings) as channel:
        stub = ProductServiceStub(channel)
        ids = []
        for number, product in enumerate(products):
            units, rest = divmod(product.hundredths, 100)
            request = product_pb2.CreateProductRequest(
                request_id=f"product-{number}",
                sku=f"SKU-{number}",
                name=f"Product {number}",
                category="campaign",
                price=Money(currency_code="EUR", units=units, nanos=rest * _NANOS_PER_HUNDREDTH),
                initial_stock=product.stock,
            )
            answer: product_pb2.CreateProductResponse = await stub.CreateProduct(request, timeout=_TIMEOUT)
            ids.append(answer.product.id)
        return ids
