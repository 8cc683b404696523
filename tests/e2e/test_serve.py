"""`shop serve` and `shop worker`: one service, as one process or as several; a worker of one topic."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grpc_balancer import Channel
from grpc_balancer.explanation import Explanation
from grpc_registry import connect
from shop.product.v1.product_pb2 import ListProductsRequest
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch import tether
from tests.e2e.conftest import LEASE_TTL
from tests.e2e.processes import alive, descendants, frozen, listener
from tests.e2e.running_shop import BIN, ENVIRONMENT
from tests.servers import Etcd, Nats, free_port

Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(etcd: Etcd, tmp_path: Path) -> Iterator[Serve]:
    """Starts `shop serve cache`, or another, with flags, on an etcd of the test's own. All are killed in the end."""
    started = []

    def start(*flags: str, command: str = "serve", service: str = "cache", **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(tether.__file__),
                str(os.getpid()),
                str(BIN / "shop"),
                command,
                service,
                *flags,
            ],
            env={**ENVIRONMENT, "REGISTRY_URL": etcd.url, "SHOP_DATA": str(tmp_path), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def registered(etcd: Etcd, count: int, service: str = "cache") -> list[dict[str, Any]]:
    """What etcd holds for the service, as soon as it is so many instances."""
    deadline = time.monotonic() + 60
    while True:
        found = etcd.ctl("get", "--prefix", f"mesh/{service}/", "--print-value-only")
        values = [json.loads(line) for line in found.split()]
        if len(values) == count or time.monotonic() > deadline:
            assert len(values) == count
            return values
        time.sleep(0.1)


def keys(etcd: Etcd) -> set[str]:
    return set(etcd.ctl("get", "--prefix", "mesh/cache/", "--keys-only").split())


def test_flags_go_before_variables(serve: Serve, etcd: Etcd) -> None:
    """The port and the weight of the flags are registered; SIGTERM drains, removes the key, and exits with 0."""
    port = free_port()
    process = serve("--port", str(port), "--weight", "7", SHOP_PORT="1", SHOP_WEIGHT="9")
    (instance,) = registered(etcd, 1)
    assert instance["Addr"] == f"127.0.0.1:{port}"
    assert instance["Metadata"]["weight"] == 7
    assert listener(instance["Addr"]) == process.pid  # it became the service
    process.terminate()
    assert process.wait(60) == 0
    registered(etcd, 0)


def test_workers_are_instances_of_one_host(serve: Serve, etcd: Etcd) -> None:
    """Each worker is an instance with a port of its own; one that dies comes back, and all drain on SIGTERM."""
    port = free_port(2)
    process = serve("--port", str(port), "--workers", "2", SHOP_LEASE_TTL=str(LEASE_TTL))
    workers = registered(etcd, 2)
    assert sorted(worker["Addr"] for worker in workers) == [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    assert {worker["Metadata"]["host"] for worker in workers} == {socket.gethostname()}

    victim = listener(f"127.0.0.1:{port}")
    before = keys(etcd)
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(found := keys(etcd)) != 2 or found == before:  # until the dead one's key is gone, and another's is there
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert listener(f"127.0.0.1:{port}") != victim

    pids = descendants(process.pid)
    assert len(pids) == 2
    process.terminate()
    assert process.wait(60) == 0
    assert not alive(pids)


async def test_calls_spread_over_workers(serve: Serve, etcd: Etcd) -> None:
    """Three workers share the calls; when one is killed the others on its host go on, and its successor joins them."""
    # Nobody reads its log here, and a pipe that is full of lines about calls would stop it.
    variables = {"SHOP_LOG_LEVEL": "warning", "SHOP_LEASE_TTL": str(LEASE_TTL)}
    process = serve("--workers", "3", service="product", **variables)
    values = await asyncio.to_thread(registered, etcd, 3, "product")
    assert {value["Metadata"]["host"] for value in values} == {socket.gethostname()}
    addresses = {value["Addr"] for value in values}
    assert len(addresses) == 3
    ls = [str(BIN / "meshctl"), "--registry", etcd.url, "ls", "product", "-o", "json"]
    listed = json.loads(await asyncio.to_thread(subprocess.check_output, ls))
    assert {instance["address"] for instance in listed} == addresses

    explained: list[Explanation] = []
    async with (
        connect(etcd.url) as registry,
        Channel("product", registry, policy="round_robin", slow_start=0, on_pick=explained.append) as channel,
        asyncio.timeout(180),
    ):
        stub = ProductServiceStub(channel)

        async def calls(number: int) -> Counter[str]:
            """Who gets so many calls, all of which are answered."""
            explained.clear()
            for _ in range(number):
                await stub.ListProducts(ListProductsRequest(page_size=1), timeout=10)
            return Counter(one.picked.address for one in explained if one.picked)

        async def all_share() -> None:
            while set(await calls(3)) != addresses:  # noqa: ASYNC110 - until all are connected
                await asyncio.sleep(0.05)
            assert await calls(30) == dict.fromkeys(addresses, 10)

        await all_share()

        victim, *others = addresses
        with frozen(process.pid):  # so that no successor is there yet
            os.kill(listener(victim), signal.SIGKILL)
            while {row.instance.address for row in channel.explain().candidates} != set(others):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a call that is made before its connection is seen to be closed would fail
            assert await calls(20) == dict.fromkeys(others, 10)

        await all_share()

    process.terminate()
    assert await asyncio.to_thread(process.wait, 60) == 0
    await asyncio.to_thread(registered, etcd, 0, "product")


def test_workers_die_with_their_parent(serve: Serve, etcd: Etcd) -> None:
    """kill -9 of the parent leaves no worker behind."""
    process = serve("--workers", "2")
    registered(etcd, 2)
    pids = descendants(process.pid)
    process.kill()
    process.wait()
    assert not alive(pids, seconds=10)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_refused(serve: Serve, workers: str) -> None:
    """A port in use ends the service, and all of its workers, with 2 and a line that names the variable."""
    port = free_port(int(workers))  # the second worker takes the next one, which must be free, or it is named instead
    with socket.create_server(("127.0.0.1", port)):
        process = serve("--port", str(port), "--workers", workers)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"SHOP_PORT: cannot bind 127.0.0.1:{port}" in errors


def test_a_worker_is_registered_while_it_works(serve: Serve, etcd: Etcd, nats: Nats) -> None:
    """`shop worker orders` becomes the worker: registered, even before NATS is there; SIGTERM drains it."""
    nats.stop()
    port = free_port()
    process = serve(
        "--concurrency", "1", command="worker", service="orders", SHOP_PORT=str(port), NATS_URL=nats.url, SHOP_GRACE="5"
    )
    (instance,) = registered(etcd, 1, "orders-worker")
    assert listener(instance["Addr"]) == process.pid
    nats.start()
    process.terminate()
    assert process.wait(60) == 0
    registered(etcd, 0, "orders-worker")
