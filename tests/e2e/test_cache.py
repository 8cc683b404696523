"""`shop cache stats` and the metrics of the cache, with real processes."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import grpc_registry
from shop_services.caching.ring import ring_channel
from shop_services.caching.service import ServiceCache
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.settings import Settings
from tests.e2e.running_shop import BIN, ENVIRONMENT
from tests.servers import Etcd, free_port
from tests.servers.service import ServiceProcess
from tests.watching import until


class Caches:
    """Two instances of the cache service, of which each serves its metrics."""

    def __init__(self, url: str, directory: Path, **environment: str) -> None:
        self.url = url
        self.ports = [free_port(), free_port()]
        self.settings = Settings(data=directory)
        self.credentials = operator_credentials(self.settings)
        variables = {
            "REGISTRY_URL": url,
            "SHOP_DATA": str(directory),
            "SHOP_LEASE_TTL": "60",
            "SHOP_CACHE_NAMESPACES": "n=lru;few=fifo,entries=10",
        }
        self.processes = []
        for port in self.ports:
            # Where nobody else comes to listen once it is killed, as may be at a port that the kernel chose.
            own = {"SHOP_PORT": str(free_port()), "SHOP_METRICS_PORT": str(port), **environment}
            (directory / str(port)).mkdir()
            self.processes.append(ServiceProcess("cache", directory / str(port), {**ENVIRONMENT, **variables, **own}))

    async def registered(self) -> None:
        """Return when both are: a process says that it listens before that."""
        async with (
            asyncio.timeout(30),
            grpc_registry.connect(self.url) as registry,
            aclosing(registry.watch("cache")) as watch,
        ):
            await until(watch, lambda known: len(known.instances) == len(self.processes), seconds=30)

    def stats(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What `shop cache stats` does."""
        command = [str(BIN / "shop"), "cache", "stats", *arguments]
        environment = {**ENVIRONMENT, "REGISTRY_URL": self.url, "SHOP_DATA": str(self.settings.data)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def metrics(self, number: int) -> dict[tuple[str, str], float]:
        """What an instance tells Prometheus, by the metric and the namespace."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[number]}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {(s.name, s.labels.get("namespace", "")): s.value for family in families for s in family.samples}

    async def use(self) -> None:
        """Set 200 values in one namespace and 100 in another that keeps 10, and look for 100 more."""
        async with (
            asyncio.timeout(30),
            grpc_registry.connect(self.url) as registry,
            ring_channel(registry) as channel,
        ):
            while len(channel.instances) < 2:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.01)
            cache = ServiceCache(channel, "n", timeout=10, credentials=self.credentials)
            await cache.multi_set([(str(number), number) for number in range(200)])
            await cache.multi_get([str(number) for number in range(300)])
            await cache.multi_set([(str(number), number) for number in range(100)], namespace="few")


@pytest.fixture
def caches(shared_etcd: Etcd, tmp_path: Path) -> Iterator[Caches]:
    caches = Caches(f"{shared_etcd.url}/{secrets.token_hex(4)}", tmp_path)
    try:
        for process in caches.processes:
            process.start()
        asyncio.run(caches.registered())
        yield caches
    finally:
        for process in caches.processes:
            process.kill()


def test_stats_count_by_namespace_and_instance(caches: Caches) -> None:
    """For people a table with totals, for programs JSON; the same is what Prometheus reads."""
    asyncio.run(caches.use())
    told = json.loads(caches.stats("-o", "json").stdout)
    rows = [row for row in told["stats"] if row["namespace"] == "n"]
    assert len({row["instance"] for row in told["stats"]}) == 2
    assert [row["policy"] for row in told["stats"]] == ["fifo", "fifo", "lru", "lru"]
    assert [row["max_entries"] for row in told["stats"]] == [10, 10, 100_000, 100_000]
    few, n = told["totals"]
    assert (n["entries"], n["sets"], n["hits"], n["misses"], n["hit_ratio"]) == (200, 200, 200, 100, 0.6667)
    assert (few["entries"], few["evictions"], few["hit_ratio"]) == (20, 80, None)
    assert n["bytes"] == sum(row["bytes"] for row in rows) > 0
    assert told["unreachable"] == []

    assert json.loads(caches.stats("few", "-o", "json").stdout)["totals"] == [few]
    lines = [line.split() for line in caches.stats().stdout.splitlines()]
    assert [line[:2] for line in lines].count(["n", "all"]) == 1
    assert lines[-1] == ["n", "all", "2", "-", "200", f"{n['bytes']:,}", "200", "100", "66.7%", "200", "0", "0", "0"]

    metrics = [caches.metrics(number) for number in (0, 1)]
    for name, total in (("entries", 200), ("hits_total", 200), ("misses_total", 100), ("bytes", n["bytes"])):
        assert sum(one["shop_cache_" + name, "n"] for one in metrics) == total
    assert sum(one["shop_cache_evictions_total", "few"] for one in metrics) == 80


def test_stats_name_who_does_not_answer(caches: Caches) -> None:
    """The others' counts are told all the same, and the command ends with 1."""
    caches.processes[0].kill()
    result = caches.stats("-o", "json")
    told = json.loads(result.stdout)
    assert result.returncode == 1
    (gone,) = told["unreachable"]
    assert len(told["stats"]) == 2
    assert gone["instance"] not in {row["instance"] for row in told["stats"]}
    assert result.stderr.startswith(f"shop cache stats: {gone['instance']} at {gone['address']}: ")
    assert "Connection refused" in result.stderr


def test_stats_of_nothing_are_an_error(caches: Caches) -> None:
    """An unknown namespace is named with those that there are; without an instance there is nothing to count."""
    result = caches.stats("products")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "shop cache stats: namespace: there is no namespace 'products'; there are few, n\n"
    caches.url += "0"
    result = caches.stats()
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "shop cache stats: no instance of the cache service is registered\n"


def test_a_port_for_metrics_that_is_taken_is_named(caches: Caches, tmp_path: Path) -> None:
    """The process does not start, and says which variable to change."""
    environment = {**ENVIRONMENT, "REGISTRY_URL": caches.url, "SHOP_METRICS_PORT": str(caches.ports[0])}
    command = [str(BIN / "shop"), "serve", "cache"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"cache: SHOP_METRICS_PORT: cannot bind port {caches.ports[0]}: ")
