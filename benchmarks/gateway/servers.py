"""The processes: what the gateway needs, the product services, the gateway, and Envoy beside it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.cache.stocked import stocked
from benchmarks.gateway.envoy import Envoy
from benchmarks.orders.shop import DurableNats, ShopProcess
from shop_services.launch.commands import service_command
from shop_services.runtime.settings import Settings
from tests.servers import Etcd, ServerProcess

PRODUCTS = 24
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Servers:
    """All that runs, and the ids of the products that there are."""

    products: Sequence[ShopProcess]
    gateway: ShopProcess
    envoy: Envoy
    ids: Sequence[str]


@contextlib.contextmanager
def running(directory: Path, program: Path, *, products: int, rng: Random) -> Iterator[Servers]:
    """Servers that answer, in front of so many product services; Envoy is `program`. Their files are in `directory`.

    Raises:
        NotReady: one did not start.
        TimeoutError: one started, and does not answer.
        RuntimeError: the gateway and Envoy answer differently.
    """
    with ExitStack() as stack:

        def start(*servers: ServerProcess) -> None:
            for server in servers:
                stack.callback(server.kill)
                server.spawn()
            for server in servers:
                server.wait_ready()

        etcd, nats = Etcd(directory / "etcd"), DurableNats(directory / "nats")
        start(etcd, nats)
        environment = {
            "SHOP_DATA": str(directory / "data"),
            "REGISTRY_URL": etcd.url,
            "NATS_URL": nats.url,
            "SHOP_GATEWAY_RATE": "0",
        }
        ids = asyncio.run(_stock(Settings.from_environment(environment), rng))
        services = [
            ShopProcess(directory / f"product-{number}", service_command("product"), environment)
            for number in range(products)
        ]
        gateway = ShopProcess(directory / "gateway", service_command("gateway"), environment)
        envoy = Envoy(directory / "envoy", program, [service.port for service in services])
        start(*services, gateway, envoy)
        for path in map(path_of, ids):
            ours, theirs = answer(gateway.port, path), answer(envoy.port, path)
            if ours != theirs:
                raise RuntimeError(f"{path}: the gateway answers {ours}, Envoy {theirs}")
        yield Servers(services, gateway, envoy, ids)


def path_of(product_id: str) -> str:
    """The path of a product over HTTP."""
    return f"/v1/products/{product_id}"


def answer(port: int, path: str) -> Any:
    """The JSON at a path, as soon as there is a 200. Raises `TimeoutError`."""
    deadline = time.monotonic() + _SECONDS
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        if response.status == 200:
            return json.loads(body)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} at port {port}: {response.status} {body[:300]!r}")
        time.sleep(0.05)


async def _stock(settings: Settings, rng: Random) -> Sequence[str]:
    settings.data.mkdir(parents=True, exist_ok=True)
    async with stocked(settings, PRODUCTS, rng) as (_database, ids):
        return ids
