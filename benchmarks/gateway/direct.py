"""The load on gRPC, as a program: `direct.py PORTS CALLS WARM SECONDS PIDS ID…` prints a `Window`."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence

import grpc
import grpc.aio

from benchmarks.gateway.load import Counting, Window
from grpc_balancer import FAST_KEEPALIVE, Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot
from shop.product.v1.product_pb2 import GetProductRequest
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.runtime.retrying import service_config

_TIMEOUT = 10.0  # the gateway's


async def load(ports: Sequence[str], calls: int, ids: Sequence[str], counting: Counting) -> Window:
    """Keep so many calls under way, through one channel as the gateway makes it, until enough is counted."""
    resolver = ManualResolver()
    instances = tuple(Instance("product", f"127.0.0.1:{port}", id=port) for port in ports)
    resolver.push(Snapshot("product", 1, instances))
    requests = itertools.cycle([GetProductRequest(product_id=product_id) for product_id in ids])
    async with Channel("product", resolver, service_config=service_config(), options=FAST_KEEPALIVE) as channel:
        stub = ProductServiceStub(channel)
        callers = [asyncio.create_task(_caller(stub, requests, counting)) for _ in range(calls)]
        await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
        window = counting.window()
        await asyncio.gather(*callers)
    return window


async def _caller(stub: ProductServiceStub, requests: Iterator[GetProductRequest], counting: Counting) -> None:
    while True:
        sent = time.perf_counter()
        refused = False
        try:
            await stub.GetProduct(next(requests), timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            refused = True
        if not counting.answered(sent, time.perf_counter(), refused=refused):
            return


def main(ports: str, calls: str, warm: str, seconds: str, pids: str, *ids: str) -> None:
    """Load, and print what was found."""
    counting = Counting(pids.split(","), warm=float(warm), seconds=float(seconds))
    sys.stdout.write(asyncio.run(load(ports.split(","), int(calls), ids, counting)).text())


if __name__ == "__main__":
    main(*sys.argv[1:])
