"""What the benchmark of orders is told, and what it tells."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from benchmarks.orders.burst import FACTOR, Burst
from benchmarks.orders.measure import PART, PERCENTILES, Measured, Plan, measured
from benchmarks.orders.shop import DATABASES, SQLITE
from benchmarks.report import Cell, Promise, Report, Spread, Table, percentile

SLOWER_AT_MOST = 5.0
GROWS_AT_MOST = 64.0
_QUICK = Plan(rounds=1, window=16, clients=4, seconds=3.0, burst=40)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES, help="(default: both)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--window", type=int, default=128, help="orders under way at most (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="that keep them under way (default: %(default)s)")
    parser.add_argument("--burst", type=int, default=10_000, help="orders; 0: no burst (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> Report:
    plan = Plan(options.rounds, options.window, options.clients, options.seconds, options.burst)
    databases: Sequence[str] = options.database
    if options.quick:
        plan, databases = _QUICK, [SQLITE]
    results = {database: measured(database, plan, options.seed) for database in databases}
    settings = {
        "rounds": plan.rounds,
        "seconds each": plan.seconds,
        "under way at most": plan.window,
        "clients": plan.clients,
        "orders of the burst": plan.burst,
        "seed": options.seed,
    }
    tables = [_rates(results), _times(results)]
    bursts = {database: result.burst for database, result in results.items() if result.burst is not None}
    before = {database: result.ours.entered for database, result in results.items()}
    if bursts:
        tables += [_absorbed(bursts, before), _memory(bursts)]
    promises = [promise for database, seen in bursts.items() for promise in _promises(database, seen, before[database])]
    return Report("orders", settings, tables, promises)


def _rates(results: Mapping[str, Measured]) -> Table:
    rows = [(database, *_compared(result.ours.rates, result.bare.rates)) for database, result in results.items()]
    title = "orders a second: median (lowest-highest) of the rounds"
    return Table(title, ("database", "FULFILLED", "bare JetStream", "FULFILLED ÷ bare"), tuple(rows))


def _times(results: Mapping[str, Measured]) -> Table:
    rows = [
        (database, f"p{percent}", *_compared(result.ours.times[percent], result.bare.times[percent]))
        for database, result in results.items()
        for percent in PERCENTILES
    ]
    title = f"ms from CreateOrder, at {PART:.2f} of these orders a second"
    return Table(title, ("database", "time", "to FULFILLED", "bare JetStream", "FULFILLED ÷ bare"), tuple(rows))


def _compared(ours: Sequence[float], bare: Sequence[float]) -> tuple[Spread, Spread, Spread]:
    ratios = tuple(one / other for one, other in zip(ours, bare, strict=True))
    return Spread(tuple(ours)), Spread(tuple(bare)), Spread(ratios)


def _absorbed(bursts: Mapping[str, Burst], before: Mapping[str, Sequence[float]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        ("sustainable, orders a second", *(seen.sustainable for seen in bursts.values())),
        ("offered, orders a second", *(seen.offered for seen in bursts.values())),
        ("offered ÷ sustainable", *(seen.factor for seen in bursts.values())),
    ]
    for percent in PERCENTILES:
        name = f"CreateOrder p{percent}, ms"
        rows.append((f"{name}, before", *(1e3 * percentile(before[database], percent) for database in bursts)))
        rows.append((f"{name}, during", *(1e3 * percentile(seen.during, percent) for seen in bursts.values())))
    rows += [
        ("orders under way at its end", *(seen.waiting for seen in bursts.values())),
        ("s from then until all were FULFILLED", *(seen.absorbed for seen in bursts.values())),
        ("orders FULFILLED", *(seen.processed for seen in bursts.values())),
    ]
    return Table("the burst", ("what", *bursts), tuple(rows))


def _memory(bursts: Mapping[str, Burst]) -> Table:
    columns = ["process"] + [f"{database}, {what}" for database in bursts for what in ("before", "most")]
    memories = [seen.memory for seen in bursts.values()]
    names = sorted({name for memory in memories for name in memory.most})
    rows: list[tuple[Cell, ...]] = [
        (name, *(when.get(name) for memory in memories for when in (memory.before, memory.most))) for name in names
    ]
    return Table("MiB of memory in the burst", tuple(columns), tuple(rows))


def _promises(database: str, seen: Burst, before: Sequence[float]) -> list[Promise]:
    slower = percentile(seen.during, 99) / percentile(before, 99)
    growth = {name: seen.memory.growth(name) for name in seen.memory.most}
    most = max(growth, key=growth.__getitem__)
    return [
        Promise(f"{database}: orders offered ÷ sustainable in the burst", seen.factor, 0.9 * FACTOR, at_least=True),
        Promise(f"{database}: p99 of CreateOrder in the burst ÷ before", slower, SLOWER_AT_MOST),
        Promise(f"{database}: orders of the burst not FULFILLED", len(seen.during) - seen.processed, 0),
        Promise(f"{database}: MiB by which a process grew in the burst ({most} most)", growth[most], GROWS_AT_MOST),
    ]
