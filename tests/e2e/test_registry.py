"""What an operator sees in etcd and by meshctl, and what becomes of it when a process dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

import grpc_registry
from grpc_balancer import Channel
from shop.product.v1 import product_pb2
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch.commands import SERVICES
from shop_services.runtime.retrying import service_config
from tests.e2e.conftest import LEASE_TTL
from tests.e2e.processes import listener
from tests.e2e.running_shop import BIN, ENVIRONMENT, RunningShop


def test_etcd_shows_instances_under_leases(shop: RunningShop) -> None:
    """`etcdctl get --prefix mesh/` shows the JSON of gRPC's own naming, each key under a lease of its process."""
    instances = {f"mesh/{i['service']}/{i['id']}": i for i in shop.instances()}
    kvs = json.loads(shop.etcdctl("get", "--prefix", "mesh/", "-w", "json"))["kvs"]
    lines = shop.etcdctl("get", "--prefix", "mesh/").splitlines()
    values = dict(zip(lines[::2], map(json.loads, lines[1::2]), strict=True))
    assert values.keys() == instances.keys()
    for key, value in values.items():
        assert value["Op"] == 0
        assert value["Addr"] == instances[key]["address"]
        assert (value["Metadata"]["weight"], value["Metadata"]["state"]) == (100, "serving")
    leases = [kv["lease"] for kv in kvs]
    assert all(leases)
    assert len(set(leases)) == len(leases)
    alive = json.loads(shop.etcdctl("lease", "timetolive", f"{leases[0]:x}", "-w", "json"))
    assert alive["granted-ttl"] == LEASE_TTL


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_whose_port_is_taken_ends(shop: RunningShop, service: str) -> None:
    """With 2 and a line that names the variable, whatever it had begun to connect to; nobody is registered by it."""
    before = shop.instances(service)
    port = before[0]["address"].rpartition(":")[2]
    variables = {"REGISTRY_URL": shop.registry, "NATS_URL": shop.bus, "SHOP_DATA": str(shop.data), "SHOP_PORT": port}
    command = [str(BIN / "shop"), "serve", service]
    ended = subprocess.run(
        command, env={**ENVIRONMENT, **variables}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert f"SHOP_PORT: cannot bind 127.0.0.1:{port}" in ended.stderr
    assert shop.instances(service) == before


def test_meshctl_changes_a_weight_in_place(shop: RunningShop) -> None:
    """`meshctl weight` changes what all see, without a new lease or id."""
    before = shop.instances("cache")
    shop.meshctl("weight", "cache", before[0]["id"], "250")
    assert [i["weight"] for i in shop.instances("cache")] == [250, *[100 for _ in before[1:]]]
    shop.meshctl("weight", "cache", before[0]["id"], "100")
    assert [i["id"] for i in shop.instances("cache")] == [i["id"] for i in before]


async def test_a_killed_instance_is_missed_by_nobody(shop: RunningShop) -> None:
    """kill -9 of an instance: no call fails, its key is gone within the TTL, and `shop up` brings it back."""
    (victim, *_) = shop.instances("product")
    pid = listener(victim["address"])
    assert pid in shop.descendants()

    async with (
        grpc_registry.connect(shop.registry, timeout=20) as registry,
        Channel("product", registry, service_config=service_config()) as channel,
        calling(channel, 4) as more,
    ):
        await more(40)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        gone = back = 0.0
        while not (gone and back):
            assert time.monotonic() < killed + 60, f"gone: {gone}, back: {back}"
            await asyncio.sleep(0.1)
            ids = {listing.instance.id for listing in await registry.list("product")}
            if not gone and victim["id"] not in ids:
                gone = time.monotonic() - killed
            if not back and len(ids - {victim["id"]}) == 2:
                back = time.monotonic() - killed
        await more(200)

    assert gone < LEASE_TTL / 2  # its lease had two thirds of its time before it, or more: `shop up` was sooner
    assert len(shop.instances("product")) == 2
    assert f"(pid {pid}) was killed by SIGKILL; it is started again in" in shop.errors()


async def test_the_embedded_etcd_comes_back_as_it_was(shop: RunningShop) -> None:
    """kill -9 of the embedded etcd: no call fails, and `shop up` starts it again with its port and its keys."""
    before = shop.instances()
    address = shop.registry.removeprefix("etcd://")
    async with (
        grpc_registry.connect(shop.registry) as registry,
        Channel("product", registry) as channel,
        calling(channel, 2) as more,
    ):
        await more(20)
        pid = listener(address)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(shop.answers, f"http://{address}/health"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert listener(address) != pid
        await more(20)
    assert shop.instances() == before


@asynccontextmanager
async def calling(channel: grpc.aio.Channel, callers: int) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Calls all the while, none of which may fail; gives what returns after so many more of them."""
    made = 0
    stop = asyncio.Event()
    stub = ProductServiceStub(channel)
    request = product_pb2.ListProductsRequest(page_size=1)

    async def call() -> None:
        nonlocal made
        while not stop.is_set():
            await stub.ListProducts(request, timeout=5)
            made += 1

    async def more(number: int) -> None:
        enough = made + number
        async with asyncio.timeout(60):
            while made < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as calls:
        for _ in range(callers):
            calls.create_task(call())
        try:
            yield more
        finally:
            stop.set()
