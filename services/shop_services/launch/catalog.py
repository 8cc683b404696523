"""Something to sell: a shop with an empty catalog of its own gets the demo's, so that a first look shows something."""

from __future__ import annotations

import grpc.aio

from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch.errors import LaunchError
from shop_services.product.seed import seed

_TIMEOUT = 10.0


async def fill_if_empty(address: str) -> int:
    """Put the demo's products into an empty catalog by way of the product service at `address`; returns how many.

    Raises:
        LaunchError: the product service failed.
    """
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = ProductServiceStub(channel)
            listed = await stub.ListProducts(product_pb2.ListProductsRequest(page_size=1), timeout=_TIMEOUT)
            return 0 if listed.products else await seed(stub)
    except grpc.aio.AioRpcError as error:
        raise LaunchError(f"the catalog cannot be filled: {error.code().name}: {error.details()}") from error
