"""shop.product.v1.ProductService: protobuf to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from shop.product.v1 import product_pb2 as pb
from shop.product.v1 import product_pb2_grpc
from shop_services.product.domain import KIND, Change, Changes, NewProduct, Product
from shop_services.product.feed import ChangeFeed
from shop_services.product.position import ANY, REVISION, Position, read_position
from shop_services.product.reads import Answer, CatalogChanges, Outcome
from shop_services.product.usecases import Browsing
from shop_services.runtime import money
from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.etags import etag
from shop_services.runtime.interceptor import Context
from shop_services.runtime.masks import changed_fields
from shop_services.runtime.paging import page_size
from shop_services.runtime.times import to_timestamp
from shop_services.storage import Replies

R = TypeVar("R", bound=Message)

_MUTABLE = ("name", "description", "category", "price")
_NEEDED = ("name", "category")


class ProductServicer(product_pb2_grpc.ProductServiceServicer):
    """Serves the catalog, and the `ChangeFeed` of its changes.

    The initial metadata `catalog-revision` of a change says at which position it was done; that of WatchProducts, after
    which one it streams, to resume from before the first change. A read that sends it sees that position or later.
    """

    def __init__(self, browsing: Browsing, changes: CatalogChanges, feed: ChangeFeed, replies: Replies) -> None:
        self._browsing = browsing
        self._changes = changes
        self._feed = feed
        self._replies = replies

    # Methods are named as the RPCs that they serve.
    # ruff: noqa: N802
    async def CreateProduct(self, request: pb.CreateProductRequest, context: Context) -> pb.CreateProductResponse:
        new = NewProduct(
            sku=request.sku,
            name=request.name,
            description=request.description,
            category=request.category,
            price=money.from_proto(request.price, "price"),
            initial_stock=request.initial_stock,
        )
        mutation = self._replies.mutation(request, pb.CreateProductResponse, _created)
        return await _told(context, await self._changes.create(new, mutation))

    async def GetProduct(self, request: pb.GetProductRequest, context: Context) -> pb.GetProductResponse:
        return pb.GetProductResponse(product=to_proto(await self._browsing.get(request.product_id, _position(context))))

    async def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: Context
    ) -> pb.BatchGetProductsResponse:
        found, missing = await self._browsing.get_many(request.product_ids, _position(context))
        return pb.BatchGetProductsResponse(products=map(to_proto, found), missing_product_ids=missing)

    async def ListProducts(self, request: pb.ListProductsRequest, context: Context) -> pb.ListProductsResponse:
        size, at = page_size(request.page_size), _position(context)
        page = await self._browsing.page(request.category, size, request.page_token, at)
        return pb.ListProductsResponse(products=map(to_proto, page.items), next_page_token=page.next_token)

    async def UpdateProduct(self, request: pb.UpdateProductRequest, context: Context) -> pb.UpdateProductResponse:
        given = request.product
        if not given.id:
            raise InvalidArgument.of("product.id", "must name the product to change")
        changes = _changes(request)
        mutation = self._replies.mutation(request, pb.UpdateProductResponse, _updated)
        return await _told(context, await self._changes.update(given.id, changes, given.etag, mutation))

    async def DeleteProduct(self, request: pb.DeleteProductRequest, context: Context) -> pb.DeleteProductResponse:
        mutation = self._replies.mutation(request, pb.DeleteProductResponse, _deleted)
        return await _told(context, await self._changes.delete(request.product_id, request.etag, mutation))

    async def WatchProducts(
        self, request: pb.WatchProductsRequest, context: Context
    ) -> AsyncIterator[pb.WatchProductsResponse]:
        async with self._feed.watch(request.after_revision) as watcher:
            # Sent at once, so that the caller knows that from here on nothing is missed.
            await context.send_initial_metadata(((REVISION, str(watcher.revision)),))
            while True:
                for change in await watcher.read():
                    if request.category in ("", change.product.category):
                        yield change_to_proto(change)


def to_proto(product: Product) -> pb.Product:
    """`product` as the API shows it."""
    return pb.Product(
        id=product.id,
        sku=product.sku,
        name=product.name,
        description=product.description,
        category=product.category,
        price=money.to_proto(product.price),
        create_time=to_timestamp(product.create_time),
        update_time=to_timestamp(product.update_time),
        etag=etag(KIND, product.id, product.revision),
    )


def change_to_proto(change: Change) -> pb.WatchProductsResponse:
    """`change` as the API shows it."""
    return pb.WatchProductsResponse(
        type=pb.ProductChangeType.Value(f"PRODUCT_CHANGE_TYPE_{change.type}"),
        product=to_proto(change.product),
        revision=change.revision,
    )


def _position(context: Context) -> Position:
    for key, value in context.invocation_metadata() or ():
        if key == REVISION:
            return read_position(value)
    return ANY


async def _told(context: Context, answer: Answer[R]) -> R:
    await context.send_initial_metadata(((REVISION, str(answer.position)),))
    return answer.reply


def _created(outcome: Outcome) -> pb.CreateProductResponse:
    return pb.CreateProductResponse(product=to_proto(outcome.product))


def _updated(outcome: Outcome) -> pb.UpdateProductResponse:
    return pb.UpdateProductResponse(product=to_proto(outcome.product))


def _deleted(_outcome: Outcome) -> pb.DeleteProductResponse:
    return pb.DeleteProductResponse()


def _changes(request: pb.UpdateProductRequest) -> Changes:
    product = request.product
    names = changed_fields(request.update_mask, product, _MUTABLE)
    values: dict[str, Any] = {name: getattr(product, name) for name in names}
    empty = [name for name in _NEEDED if values.get(name) == ""]
    if "price" in values and not product.HasField("price"):
        empty.append("price")
    if empty:
        raise InvalidArgument((f"product.{name}", "must not be empty") for name in empty)
    if "price" in values:
        values["price"] = money.from_proto(product.price, "product.price")
    return cast("Changes", values)
