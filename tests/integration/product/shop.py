"""What the tests of the product service have in common: an instance, and short words for calls of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc
from google.type.money_pb2 import Money
from grpc_status import rpc_status

from shop.product.v1 import inventory_pb2, inventory_pb2_grpc, product_pb2, product_pb2_grpc
from shop_services.runtime.app import App

TIMEOUT = 20.0
STREAM = 120.0
"""Seconds that a watcher waits for changes that others make one after another."""

Call = grpc.aio.UnaryStreamCall[product_pb2.WatchProductsRequest, product_pb2.WatchProductsResponse]


class Shop:
    """An instance of the product service, and its stubs."""

    def __init__(self, channel: grpc.aio.Channel, app: App | None = None) -> None:
        self.products = product_pb2_grpc.ProductServiceStub(channel)
        self.inventory = inventory_pb2_grpc.InventoryServiceStub(channel)
        self.app = app

    async def create(self, sku: str, stock: int = 0, **fields: Any) -> product_pb2.Product:
        """A new product, with some name, category and price unless `fields` gives them."""
        given: dict[str, Any] = {"name": f"The {sku}", "category": "things", "price": euros(5)} | fields
        request = product_pb2.CreateProductRequest(sku=sku, initial_stock=stock, **given)
        return (await self.products.CreateProduct(request, timeout=TIMEOUT)).product

    async def update(self, product_id: str, mask: Sequence[str] = (), **fields: Any) -> product_pb2.Product:
        """The product after the change of `fields`."""
        request = product_pb2.UpdateProductRequest(product=product_pb2.Product(id=product_id, **fields))
        request.update_mask.paths.extend(mask)
        return (await self.products.UpdateProduct(request, timeout=TIMEOUT)).product

    async def delete(self, product_id: str, etag: str = "") -> None:
        """Take a product out of the catalog."""
        request = product_pb2.DeleteProductRequest(product_id=product_id, etag=etag)
        await self.products.DeleteProduct(request, timeout=TIMEOUT)

    async def list(self, category: str = "", size: int = 0, token: str = "") -> product_pb2.ListProductsResponse:
        """A page of products."""
        request = product_pb2.ListProductsRequest(category=category, page_size=size, page_token=token)
        return await self.products.ListProducts(request, timeout=TIMEOUT)

    async def watch(self, after: int = 0, category: str = "") -> Call:
        """A stream of changes, which has begun."""
        request = product_pb2.WatchProductsRequest(after_revision=after, category=category)
        call = self.products.WatchProducts(request, timeout=STREAM)
        await call.initial_metadata()
        return call

    async def reserve(self, order_id: str, **quantities: int) -> inventory_pb2.Reservation:
        """Reserve a quantity of each product, named by its id."""
        items = [inventory_pb2.StockItem(product_id=name, quantity=count) for name, count in quantities.items()]
        request = inventory_pb2.ReserveStockRequest(order_id=order_id, items=items)
        return (await self.inventory.ReserveStock(request, timeout=TIMEOUT)).reservation

    async def release(self, order_id: str) -> inventory_pb2.Reservation:
        """Release what an order has reserved."""
        request = inventory_pb2.ReleaseStockRequest(order_id=order_id)
        return (await self.inventory.ReleaseStock(request, timeout=TIMEOUT)).reservation

    async def commit(self, order_id: str) -> inventory_pb2.Reservation:
        """Commit what an order has reserved."""
        request = inventory_pb2.CommitStockRequest(order_id=order_id)
        return (await self.inventory.CommitStock(request, timeout=TIMEOUT)).reservation

    async def adjust(self, product_id: str, delta: int, request_id: str = "") -> tuple[int, int, int]:
        """Deliver some more of a product, or lose some; returns the counts."""
        request = inventory_pb2.AdjustStockRequest(product_id=product_id, delta=delta, request_id=request_id)
        return counts((await self.inventory.AdjustStock(request, timeout=TIMEOUT)).stock)

    async def stock(self, product_id: str) -> tuple[int, int, int]:
        """How many are available, reserved and committed."""
        request = inventory_pb2.GetStockRequest(product_id=product_id)
        return counts((await self.inventory.GetStock(request, timeout=TIMEOUT)).stock)


Start = Callable[..., Awaitable[Shop]]


def euros(units: int, cents: int = 0) -> Money:
    """An amount in EUR."""
    return Money(currency_code="EUR", units=units, nanos=cents * 10_000_000)


def counts(stock: inventory_pb2.Stock) -> tuple[int, int, int]:
    """How many are available, reserved and committed."""
    return stock.available, stock.reserved, stock.committed


async def take(call: Call, count: int) -> list[product_pb2.WatchProductsResponse]:
    """The next `count` changes of a stream."""
    async with asyncio.timeout(STREAM):
        return [await _next(call) for _ in range(count)]


async def ended(call: Call) -> Failure:
    """How a stream fails that has no further changes."""
    async with asyncio.timeout(TIMEOUT):
        return await failure(call.read())


class Failure:
    """How a call failed: `code`, `message`, the wrong `fields` of the request, the `violations` of preconditions."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has what it reads
        details = status.details if status is not None else []
        self.fields = [v.field for d in _unpacked(details, rpc.BadRequest) for v in d.field_violations]
        self.violations = [
            (v.type, v.subject, v.description)
            for d in _unpacked(details, rpc.PreconditionFailure)
            for v in d.violations
        ]
        self.resources = [(d.resource_type, d.resource_name) for d in _unpacked(details, rpc.ResourceInfo)]


async def failure(call: Awaitable[object]) -> Failure:
    """How a call fails, which must not succeed."""
    try:
        result = await call
    except grpc.aio.AioRpcError as error:
        return Failure(error)
    raise AssertionError(f"did not fail: {result}")


async def _next(call: Call) -> product_pb2.WatchProductsResponse:
    change = await call.read()
    assert isinstance(change, product_pb2.WatchProductsResponse), await call.code()
    return change


def _unpacked(details: Any, kind: type[Message]) -> list[Any]:
    found = []
    for detail in details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found
