"""What an order needs to know of other services, and how they are asked: by RPC, within the caller's deadline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import grpc

from shop.product.v1 import inventory_pb2, product_pb2
from shop.product.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.order.domain import Line, Product
from shop_services.runtime import money
from shop_services.runtime.errors import DOMAIN, InvalidArgument, Unavailable
from shop_services.runtime.status import info_of

_REFUSED = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)


class Users(Protocol):
    """Who may order."""

    async def exists(self, user_id: str) -> bool:
        """Whether there is such a user. Raises `Unavailable` if that cannot be found out now."""


class Catalog(Protocol):
    """What can be ordered."""

    async def products(self, product_ids: Sequence[str]) -> Mapping[str, Product]:
        """Those of the products that exist, by id. Raises `Unavailable` if that cannot be found out now."""


class StockRefused(Exception):
    """The stock of an order is in a state that forbids it, for good. The text is for people."""


class Stock(Protocol):
    """Where the stock of orders is set aside. All can be repeated, and raise `Unavailable` if it is not known what was
    done: call again with the same arguments."""

    async def reserve(self, order_id: str, lines: Sequence[Line]) -> None:
        """Set aside what an order needs.

        Raises:
            StockRefused: there is too little, a product is gone, or the order's stock was released or committed before.
        """

    async def commit(self, order_id: str) -> None:
        """Turn what was set aside into sold stock. Raises `StockRefused`: it was released, or never set aside."""

    async def release(self, order_id: str) -> None:
        """Give it back, and keep a late reservation out. Raises `StockRefused`: it is sold."""


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


class InventoryService:
    """`Stock` by RPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = InventoryServiceStub(channel)

    async def reserve(self, order_id: str, lines: Sequence[Line]) -> None:
        items = [inventory_pb2.StockItem(product_id=line.product_id, quantity=line.quantity) for line in lines]
        with _refusals():
            await self._stub.ReserveStock(inventory_pb2.ReserveStockRequest(order_id=order_id, items=items))

    async def commit(self, order_id: str) -> None:
        with _refusals():
            await self._stub.CommitStock(inventory_pb2.CommitStockRequest(order_id=order_id))

    async def release(self, order_id: str) -> None:
        with _refusals():
            await self._stub.ReleaseStock(inventory_pb2.ReleaseStockRequest(order_id=order_id))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        # The product service's own words: `info_of` tells them from a NOT_FOUND of a proxy that knows no such method.
        if error.code() in _REFUSED and info_of(error).domain == DOMAIN:
            raise StockRefused(error.details()) from error
        raise Unavailable(
            f"the stock cannot be asked ({error.code().name})", metadata={"service": "product"}
        ) from error


def _product(message: product_pb2.Product) -> Product:
    try:
        return Product(message.id, message.name, money.from_proto(message.price, "price"))
    except InvalidArgument as error:  # a fault of the catalog's, which our caller must not be blamed for
        raise ValueError(f"the catalog's product {message.id!r} has no usable price: {error}") from error


def _unavailable(service: str, error: grpc.aio.AioRpcError) -> Unavailable:
    # Whatever kept the answer away, the order was not recorded, and the same call may succeed later.
    why = f"the {service} service cannot be asked ({error.code().name}); nothing was recorded"
    return Unavailable(why, metadata={"service": service})
