"""Hit ratios, the catalog and the herd, as tables and promises."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.cache import catalog, herd
from benchmarks.cache.herd import Herd
from benchmarks.cache.hits import compare
from benchmarks.cache.parts import Part, Plan
from benchmarks.cache.reads import OFF
from benchmarks.cache.zipf import trace
from benchmarks.report import Cell, Promise, Spread, Table
from shop_services.caching.bounded import POLICIES
from tests.servers import Valkey

CACHED = (0.01, 0.1)
GAIN = 1.0


async def hits(plan: Plan) -> Part:
    """The hit ratio of each policy."""
    numbers = trace(plan.things, plan.looks, Random(plan.seed))
    rows: list[tuple[Cell, ...]] = []
    promises = []
    for policy in POLICIES:
        for part in CACHED:
            found = await compare(policy, int(part * plan.things), numbers)
            more = found.ours - found.reference
            rows.append((policy, f"{part:.0%}", found.ours / found.looks, found.reference / found.looks, more))
            promises.append(Promise(f"{policy}, {part:.0%} cached: hits more or less than the reference", abs(more), 0))
    title = f"hit ratios: {plan.looks:,} looks for {plan.things:,} keys"
    return Part([Table(title, ("policy", "cached", "ours", "reference", "hits more"), tuple(rows))], promises)


def of_catalog(plan: Plan) -> Part:
    """Reads a second, with caches and without."""
    size = catalog.Plan(plan.things, plan.things // 10, plan.turns, plan.reads, plan.reads // 2)
    by_use_case: list[tuple[Cell, ...]] = []
    over_grpc: list[tuple[Cell, ...]] = []
    promises = []
    for database in plan.databases:
        found = catalog.measured(database, size, plan.seed)
        without = found.reads[OFF].rates
        for way, played in found.reads.items():
            gain = None if way == OFF else _ratio(played.rates, without)
            rate = Spread(tuple(played.rates))
            by_use_case.append((database, way, rate, gain, played.local, played.shared, played.loads))
            if gain is not None:
                promises.append(Promise(f"{database}, {way}: reads a second ÷ {OFF}", gain.median, GAIN, at_least=True))
        for way, rates in found.calls.items():
            gain = None if way == OFF else _ratio(rates, found.calls[OFF])
            over_grpc.append((database, way, Spread(tuple(rates)), gain))
    columns = ("database", "cache", "reads a second", "÷ off", "hits", "hits in the shared one", "loads")
    title = f"reads of {plan.things:,} products by use case; hits and loads in parts of the reads"
    tables = [
        Table(title, columns, tuple(by_use_case)),
        Table("the same over gRPC", ("database", "cache", "reads a second", "÷ off"), tuple(over_grpc)),
    ]
    return Part(tables, promises)


async def herds(plan: Plan) -> Part:
    """How often the source is asked."""
    async with herd.reader(None, plan.seed) as reading:
        single = [await herd.herd(reading, f"herd-{number}") for number in range(plan.herds)]
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        valkey = Valkey(Path(directory))
        try:
            await asyncio.to_thread(valkey.start)
            async with herd.herds(valkey.url, plan.processes) as processes:
                several = [await processes.all_ask(f"herd-{number}") for number in range(plan.herds)]
        finally:
            valkey.kill()
    rows = (
        ("1", herd.ASKING, *_seen([[one] for one in single])),
        (f"{plan.processes}, sharing a Valkey", plan.processes * herd.ASKING, *_seen(several)),
    )
    columns = ("processes", "reads", "loads", "most loads of a process", "ms until all had it")
    title = f"{plan.herds} herds; a load takes {1e3 * herd.SOURCE_SECONDS:.0f} ms"
    promises = [
        Promise("one process: loads a herd, at most", max(one.loads for one in single), 1),
        Promise(
            "several processes: loads a herd of a process, at most",
            max(one.loads for all_ in several for one in all_),
            1,
        ),
    ]
    return Part([Table(title, columns, rows)], promises)


def _seen(herds_: Sequence[Sequence[Herd]]) -> tuple[Cell, Cell, Cell]:
    """Of each herd: all loads, those of the process with most, and the milliseconds until the last had it."""
    return (
        Spread(tuple(sum(one.loads for one in all_) for all_ in herds_)),
        Spread(tuple(max(one.loads for one in all_) for all_ in herds_)),
        Spread(tuple(1e3 * max(one.seconds for one in all_) for all_ in herds_)),
    )


def _ratio(rates: Sequence[float], others: Sequence[float]) -> Spread:
    return Spread(tuple(rate / other for rate, other in zip(rates, others, strict=True)))
