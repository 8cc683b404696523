"""One campaign from its beginning to its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

import sqlalchemy as sa

from benchmarks.report import Promise, Report, Table, percentile
from campaigns.catalog.clients import Clients
from campaigns.catalog.history import BREACHES, Breach, History
from campaigns.catalog.scene import open_scene
from campaigns.faults import Kind, break_things
from shop_services.product import tables
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.operator import operator_channel
from shop_services.storage import Database

SETTLES_WITHIN = 30.0
"""Seconds until all that was acknowledged is in the database."""

LISTS_BEHIND = 6.0
"""In mode `behind`, seconds by which lists may be out of date: until a change is written, also by another process."""

_MOST_NAMED = 5


async def run(
    directory: Path,
    *,
    mode: str,
    cache: str,
    database: str,
    seconds: float,
    rate: float,
    seed: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Read so many times a second, for so many seconds, a catalog cached as `mode` says.

    `cache` is "memory" or "redis", `database` "postgresql" or "sqlite". Files go into `directory`. Every fault is told
    as it happens.
    """
    settings = {"mode": mode, "cache": cache, "database": database, "seconds": f"{seconds:g}", "seed": seed}
    async with open_scene(directory, mode=mode, cache=cache, database=database, report=lambda line: None) as scene:
        calling = operator_channel("product", scene.registry, scene.settings)
        async with calling as channel, asyncio.TaskGroup() as tasks:
            clients, stop = Clients(channel, seed), asyncio.Event()
            await clients.fill()
            tell(f"the catalog is open; its logs are in {directory / 'logs'}")
            breaking = tasks.create_task(break_things(scene.victims, Random(f"{seed}/faults"), stop, tell))
            await clients.work(seconds, rate)
            stop.set()
        began = time.monotonic()
        async with Database(scene.settings.database("product"), service="campaign", pool=1) as products:
            lost = await _settled(products, clients.history)
        settling = time.monotonic() - began
        bound = 0.0 if mode == "off" else scene.settings.catalog_staleness
    list_bound = LISTS_BEHIND if mode == "behind" else bound
    breaches = list(clients.history.breaches(bound, list_bound))
    broken = Counter(breach.what for breach in breaches)
    return Report(
        "catalog",
        {**settings, "bound s": bound, "bound of lists s": list_bound},
        [_numbers(clients, seconds, settling), _faults(breaking.result())],
        [
            *(Promise(what, broken[what], 0) for what in BREACHES),
            Promise("calls that failed", len(clients.answers.failed), 0),
            Promise("products whose last acknowledged state is not in the database", len(lost), 0),
            *(
                Promise(f"faults of {what}", count, 1, at_least=True)
                for what, count in _broken(breaking.result()).items()
            ),
            Promise("reads", len(clients.history.reads), seconds * rate / 10, at_least=True),
        ],
        _notes(breaches, clients.answers.failed, lost),
        "faults",
    )


async def _settled(database: Database, history: History) -> dict[str, str]:
    """Wait until the database holds the last acknowledged state of each product; what it does not hold in the end."""
    lost = {"the database": "cannot be read"}
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLES_WITHIN):
            while lost:
                with suppress(Unavailable):
                    lost = await _missing(database, history)
                await asyncio.sleep(0.2 if lost else 0)
    return lost


async def _missing(database: Database, history: History) -> dict[str, str]:
    table = tables.products
    async with database.reading() as connection:
        rows = await connection.execute(sa.select(table.c.id, table.c.name, table.c.category))
    found = {row.id: (int(row.name), row.category) for row in rows}
    missing = {}
    for product, states in history.products.items():
        number, category = found.get(product, (-1, ""))
        last = len(states.acknowledged) - 1
        if number < last or category != states.categories[number]:
            missing[product] = f"state {number} in {category!r}; {last} was acknowledged"
    return missing


def _numbers(clients: Clients, seconds: float, settling: float) -> Table:
    history, took = clients.history, clients.answers.took or [0.0]
    staleness = history.staleness() or [0.0]
    rows: list[tuple[str, float]] = [
        ("reads/s", len(history.reads) / seconds),
        ("acknowledged writes/s", sum(len(s.acknowledged) - 1 for s in history.products.values()) / seconds),
        ("ms a read took, p50", 1e3 * percentile(took, 50)),
        ("ms a read took, p99", 1e3 * percentile(took, 99)),
        ("ms a read took, longest", 1e3 * max(took)),
        ("states shown that were out of date, of a thousand", 1e3 * sum(s > 0 for s in staleness) / len(staleness)),
        ("ms a state was out of date, longest", 1e3 * max(staleness)),
        ("writes that were asked for again", sum(clients.answers.again.values())),
        ("seconds to settle", settling),
    ]
    return Table("reads and writes", ("what", "value"), tuple(rows))


def _faults(faults: Mapping[tuple[str, Kind], int]) -> Table:
    return Table("faults", ("what", "how", "times"), tuple((what, how, n) for (what, how), n in sorted(faults.items())))


def _broken(faults: Mapping[tuple[str, Kind], int]) -> dict[str, int]:
    """How often products were broken, and caches, be it instances or Valkey."""
    counts = {"product instances": 0, "caches": 0}
    for (what, _), times in faults.items():
        counts["product instances" if what == "product" else "caches"] += times
    return counts


def _notes(breaches: list[Breach], failed: list[str], lost: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for title, those in (
        ("failed", failed),
        ("lost", [f"{product}: {how}" for product, how in lost.items()]),
        *((what, [str(breach) for breach in breaches if breach.what == what]) for what in BREACHES),
    ):
        lines += [f"{title}: {line}" for line in those[:_MOST_NAMED]]
        lines += [f"{title}: and {len(those) - _MOST_NAMED} more"] if len(those) > _MOST_NAMED else []
    return lines
