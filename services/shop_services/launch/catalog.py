"""Something to sell: a shop with an empty catalog of its own gets the demo's, so that a first look shows something."""

from __future__ import annotations

import grpc.aio

from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch.errors import LaunchError
from shop_services.product.seed import seed
from shop_services.runtime.settings import Settings

_TIMEOUT = 10.0


async def fill_if_empty(channel: grpc.aio.Channel, settings: Settings) -> int:
    """Put the demo's products into an empty catalog, over a channel to the product service; returns how many.

    Raises:
        LaunchError: the product service failed.
        SettingError: there is no key to call as the operator with.
    """
    try:
        async with channel:
            request = product_pb2.ListProductsRequest(page_size=1)
            if (await ProductServiceStub(channel).ListProducts(request, timeout=_TIMEOUT)).products:
                return 0
            # With a balancer: too slow for starts that have nothing to fill.
            from shop_services.runtime.operator import operator_credentials
            from shop_services.runtime.outgoing import OutgoingChannel

            operator = OutgoingChannel(channel, credentials=operator_credentials(settings))
            return await seed(ProductServiceStub(operator))
    except grpc.aio.AioRpcError as error:
        raise LaunchError(f"the catalog cannot be filled: {error.code().name}: {error.details()}") from error
