"""The servers that the catalog's caches need, and what is measured on them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.cache import reads, served
from benchmarks.cache.reads import OFF, Played
from benchmarks.cache.served import products
from benchmarks.cache.stocked import stocked
from benchmarks.cache.zipf import trace
from benchmarks.orders.shop import POSTGRESQL, DurableNats, DurablePostgres, ShopProcess
from shop_services.launch.commands import service_command
from shop_services.runtime.settings import Settings
from tests.servers import Etcd, ServerProcess, Valkey

ALONE, VALKEY, SERVICE = "of the process alone", "and Valkey", "and the cache service"
WAYS = (ALONE, VALKEY, SERVICE)
"""The caches: the process' own, and a shared one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `entries` is the room in the cache of a process."""

    products: int
    entries: int
    rounds: int
    reads: int
    calls: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was measured on one database: by use case, in each way; and over gRPC, reads a second."""

    reads: Mapping[str, Played]
    calls: Mapping[str, list[float]]


def measured(database: str, plan: Plan, seed: int) -> Catalog:
    """Start what it takes, and measure. Raises `NotReady`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, _servers(Path(name), database, plan) as environments:
        return asyncio.run(_measure(Path(name), environments, plan, Random(seed)))


async def _measure(directory: Path, environments: Mapping[str, Mapping[str, str]], plan: Plan, rng: Random) -> Catalog:
    settings = {way: Settings.from_environment(environment) for way, environment in environments.items()}
    warm = 4 * plan.entries
    async with stocked(settings[ALONE], plan.products, rng) as (database, ids):
        numbers = trace(plan.products, warm + plan.rounds * max(plan.reads, plan.calls), rng)
        asked = [ids[number] for number in numbers]
        first = asked[: warm + plan.rounds * plan.reads]
        filled = {VALKEY: ids, SERVICE: ids}
        by_use_case = await reads.compare(database, settings, filled, first, rounds=plan.rounds, warm=warm)
        first = asked[: warm + plan.rounds * plan.calls]
        processes = {OFF: {**environments[VALKEY], "CATALOG_CACHE": "off"}, VALKEY: environments[VALKEY]}
        with products(directory, processes) as running:
            calls = await served.compare(running, first, rounds=plan.rounds, warm=warm)
    return Catalog(by_use_case, calls)


@contextlib.contextmanager
def _servers(directory: Path, database: str, plan: Plan) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """The environment of a product service in each of `WAYS`."""
    environment = {"SHOP_DATA": str(directory / "data"), "SHOP_CATALOG_ENTRIES": str(plan.entries)}
    with ExitStack() as stack:

        def start(server: ServerProcess) -> None:
            stack.callback(server.kill)
            server.start()

        if database == POSTGRESQL:
            postgres = DurablePostgres()
            stack.callback(postgres.remove)
            postgres.start()
            environment["DATABASE_URL"] = stack.enter_context(postgres.database())
        etcd, nats, valkey = Etcd(directory / "etcd"), DurableNats(directory / "nats"), Valkey(directory / "valkey")
        for server in (etcd, nats, valkey):
            start(server)
        environment |= {"REGISTRY_URL": etcd.url, "NATS_URL": nats.url}
        start(ShopProcess(directory / "cache", service_command("cache"), environment))
        yield {
            ALONE: {**environment, "REGISTRY_URL": "memory://nobody"},
            VALKEY: {**environment, "CACHE_URL": valkey.url},
            SERVICE: environment,
        }
