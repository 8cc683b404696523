"""The good call that is made all the while: over a connection of its own, with a good token, as any client would."""

from __future__ import annotations

import asyncio

import grpc

from shop.product.v1 import product_pb2, product_pb2_grpc

_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)  # else gRPC would keep a connection, and use it for the next call
_SHED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_TIMEOUT = 30.0
_PAUSE = 0.2


async def ask(port: int, token: str) -> None:
    """Ask for a page of products, again as long as the server says that it is busy. Raises `grpc.RpcError`."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        stub = product_pb2_grpc.ProductServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        while True:
            try:
                await stub.ListProducts(
                    product_pb2.ListProductsRequest(page_size=1), timeout=_TIMEOUT, metadata=metadata
                )
                return
            except grpc.aio.AioRpcError as error:
                if error.code() not in _SHED or not _pushed_back(error):
                    raise
            await asyncio.sleep(_PAUSE)


def _pushed_back(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server itself has said to come again, and is not just away."""
    return any(key == "grpc-retry-pushback-ms" for key, _ in error.trailing_metadata() or ())
