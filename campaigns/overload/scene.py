"""The part of the shop that is asked: a product service with some products, and a gateway without limits of rates."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from google.type.money_pb2 import Money

import grpc_registry
from campaigns.processes import part_of
from campaigns.servers import Broker
from shop.product.v1 import product_pb2 as pb
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch.commands import service_command
from shop_services.launch.probes import http_get
from shop_services.launch.program import Part
from shop_services.launch.readiness import Instances, wait_ready
from shop_services.launch.supervisor import Child, Supervisor
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.settings import Settings
from tests.servers import Etcd, free_port

READY_WITHIN = 90.0
PRODUCTS = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """What runs, and what can be asked of the gateway at `port`."""

    port: int
    paths: Sequence[str]
    pids: Mapping[str, int]


@contextlib.asynccontextmanager
async def open_scene(directory: Path) -> AsyncIterator[Scene]:
    """Start it all, and stop it all in the end.

    Raises:
        LaunchError: it did not get ready.
    """
    async with AsyncExitStack() as stack:
        etcd, broker = Etcd(directory / "etcd"), Broker(directory / "nats")
        for server in (etcd, broker):
            stack.callback(server.kill)
            await asyncio.to_thread(server.start)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
        environment |= {
            "REGISTRY_URL": etcd.url,
            "NATS_URL": broker.url,
            "DATABASE_URL": "",
            "CACHE_URL": "",
            "SHOP_DATA": str(directory / "data"),
            "SHOP_GATEWAY_RATE": "0",  # all clients have one address here
        }
        settings = Settings.from_environment(environment)
        supervisor = await stack.enter_async_context(Supervisor(lambda line: None))
        registry = await stack.enter_async_context(grpc_registry.connect(etcd.url))
        instances = await stack.enter_async_context(Instances(registry, settings))
        product, gateway = (
            part_of(name, service_command(name), environment, directory, port=free_port())
            for name in ("product", "gateway")
        )
        children = {part.service: supervisor.start(part.program) for part in (product, gateway)}
        await wait_ready([product], instances.serve, seconds=READY_WITHIN)
        channel = operator_channel("product", registry, settings)
        async with channel:
            paths = await _fill(ProductServiceStub(channel))
        port = int(gateway.address.rpartition(":")[2])
        await wait_ready([gateway], partial(_serves, path=paths[0]), seconds=READY_WITHIN)
        yield Scene(port, paths, {name: _pid(child) for name, child in children.items()})


async def _serves(gateway: Part, path: str) -> bool:
    return (await http_get(gateway.address, path))[0] == 200


async def _fill(products: ProductServiceStub) -> Sequence[str]:
    paths = []
    for number in range(PRODUCTS):
        request = pb.CreateProductRequest(
            request_id=f"create-{number}",
            sku=f"SKU-{number}",
            name=f"Product {number}",
            category="books",
            price=Money(currency_code="EUR", units=1),
            initial_stock=1,
        )
        answer: pb.CreateProductResponse = await products.CreateProduct(request, timeout=20.0)
        paths.append(f"/v1/products/{answer.product.id}")
    return paths


def _pid(child: Child) -> int:
    if child.pid is None:
        raise RuntimeError(f"{child.name} does not run")
    return child.pid
