"""What an order needs to know of other services, and how they are asked: by RPC, within the caller's deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import grpc

from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.order.domain import Product
from shop_services.runtime import money
from shop_services.runtime.errors import InvalidArgument, Unavailable


class Users(Protocol):
    """Who may order."""

    async def exists(self, user_id: str) -> bool:
        """Whether there is such a user. Raises `Unavailable` if that cannot be found out now."""


class Catalog(Protocol):
    """What can be ordered."""

    async def products(self, product_ids: Sequence[str]) -> Mapping[str, Product]:
        """Those of the products that exist, by id. Raises `Unavailable` if that cannot be found out now."""


class UserService:
    """`Users` by RPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = UserServiceStub(channel)

    async def exists(self, user_id: str) -> bool:
        try:
            await self._stub.GetUser(user_pb2.GetUserRequest(user_id=user_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise _unavailable("user", error) from error
        return True


class ProductService:
    """`Catalog` by RPC: one call for all products."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ProductServiceStub(channel)

    async def products(self, product_ids: Sequence[str]) -> Mapping[str, Product]:
        request = product_pb2.BatchGetProductsRequest(product_ids=product_ids)
        try:
            response = await self._stub.BatchGetProducts(request)
        except grpc.aio.AioRpcError as error:
            raise _unavailable("product", error) from error
        return {product.id: _product(product) for product in response.products}


def _product(message: product_pb2.Product) -> Product:
    try:
        return Product(message.id, message.name, money.from_proto(message.price, "price"))
    except InvalidArgument as error:  # a fault of the catalog's, which our caller must not be blamed for
        raise ValueError(f"the catalog's product {message.id!r} has no usable price: {error}") from error


def _unavailable(service: str, error: grpc.aio.AioRpcError) -> Unavailable:
    # Whatever kept the answer away, the order was not recorded, and the same call may succeed later.
    why = f"the {service} service cannot be asked ({error.code().name}); nothing was recorded"
    return Unavailable(why, metadata={"service": service})
