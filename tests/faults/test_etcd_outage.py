"""etcd dies while people shop, and comes back much later."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Snapshot
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch import tether
from shop_services.runtime.retrying import service_config
from tests.e2e.processes import listener
from tests.e2e.running_shop import BIN, ENVIRONMENT, RunningShop
from tests.elapsed import measured
from tests.servers import Etcd, free_port
from tests.watching import ids, until

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "30"))
KNOWN_WITHIN_SECONDS = 5


@pytest.fixture
def shop(tmp_path: Path, etcd: Etcd) -> Iterator[RunningShop]:
    """A shop on an etcd of the test's own: `shop up` would start its own again at once."""
    shop = RunningShop(tmp_path / "data", REGISTRY_URL=etcd.url)
    try:
        yield shop.start()
    finally:
        shop.kill()


class Shoppers:
    """Calls that go on in the background, over gRPC and HTTP. The first that fails is kept."""

    def __init__(self) -> None:
        self.made = 0
        self.failure: BaseException | None = None
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, call: Callable[[], Awaitable[object]], *, pause: float) -> None:
        self._tasks.append(asyncio.create_task(self._keep_calling(call, pause)))

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _keep_calling(self, call: Callable[[], Awaitable[object]], pause: float) -> None:
        while not self._stop.is_set():
            try:
                await call()
            except BaseException as error:
                self.failure = self.failure or error
                return
            self.made += 1
            await asyncio.sleep(pause)


class Extra:
    """One more product instance, by `shop serve`, as an operator would start it."""

    def __init__(self, shop: RunningShop, etcd: Etcd) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        command = [str(BIN / "shop"), "serve", "product", "--port", self.address.rpartition(":")[2]]
        environment = {**ENVIRONMENT, "REGISTRY_URL": etcd.url, "SHOP_DATA": str(shop.data)}
        with shop.data.with_name(f"extra-{self.address}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), *command],
                env=environment,
                stdout=log,
                stderr=log,
            )

    async def drain(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 30) == 0


async def test_an_outage_of_etcd_is_noticed_by_nobody(
    shop: RunningShop, etcd: Etcd, record_property: Callable[[str, object], None]
) -> None:
    """No call fails while etcd is away for half a minute, or when it returns. What happened meanwhile is known within
    5 s of its return: an instance that started, one that drained with nobody to watch over it, one that was killed, and
    the one that `shop up` put in its place."""
    draining = Extra(shop, etcd)
    product = shop.http("GET", "/v1/products?pageSize=1")["products"][0]
    account = {"email": "ada@shop.example", "username": "ada", "password": "correct horse"}
    user = shop.http("POST", "/v1/users", account)["user"]
    order = {"userId": user["id"], "items": [{"productId": product["id"], "quantity": 1}]}
    shoppers = Shoppers()

    async with (
        grpc_registry.connect(etcd.url) as registry,
        Channel("product", registry, service_config=service_config()) as channel,  # as those of the shop's services
    ):
        async with aclosing(registry.watch_all()) as watch:
            before = await until(watch, lambda snapshot: draining.address in addresses(snapshot), seconds=60)
            stub = ProductServiceStub(channel)
            request = product_pb2.GetProductRequest(product_id=product["id"])
            for _ in range(2):
                shoppers.start(lambda: stub.GetProduct(request, timeout=5), pause=0.01)

            async def buy() -> None:
                await asyncio.to_thread(shop.http, "POST", "/v1/orders", {**order, "requestId": f"n{shoppers.made}"})

            shoppers.start(buy, pause=0.2)
            async with asyncio.timeout(60):
                while shoppers.made < 100 and shoppers.failure is None:  # noqa: ASYNC110 - until they are at it
                    await asyncio.sleep(0.05)

            etcd.kill()
            killed = time.monotonic()
            started = Extra(shop, etcd)
            await draining.drain()
            victim = next(instance for instance in before.instances if instance.service == "cache")
            os.kill(listener(victim.address), signal.SIGKILL)
            await asyncio.sleep(killed + OUTAGE_SECONDS - time.monotonic())
            await listening(started.address, victim.address)  # what is to be known has happened, also on a busy machine
            during = shoppers.made

            await asyncio.to_thread(etcd.start)
            async with measured() as elapsed:
                await until(
                    watch,
                    lambda known: (
                        caught_up(known, victim, started.address) and draining.address not in addresses(known)
                    ),
                    seconds=30,
                )
                known_after = elapsed.seconds
            record_property("known_after_seconds", round(known_after, 1))
        await shoppers.stop()
        await started.drain()

    record_property("calls", shoppers.made)
    assert shoppers.failure is None, f"a call failed: {shoppers.failure!r}"
    assert known_after < KNOWN_WITHIN_SECONDS
    assert during > OUTAGE_SECONDS * 5  # they shopped all the while; on an idle machine it is twenty times as much


async def listening(*places: str) -> None:
    """Return when somebody listens on each."""
    async with asyncio.timeout(60):
        for place in places:
            host, _, port = place.rpartition(":")
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.close()
                    break
                await asyncio.sleep(0.1)


def addresses(snapshot: Snapshot) -> list[str]:
    return [instance.address for instance in snapshot.instances]


def caught_up(snapshot: Snapshot, victim: Instance, started: str) -> bool:
    """Whether the victim's place is taken by another, and the new address is there."""
    replaced = {instance.address: instance.id for instance in snapshot.instances}.get(victim.address)
    gone = victim.id not in ids(snapshot)
    return not snapshot.stale and gone and replaced is not None and started in addresses(snapshot)
