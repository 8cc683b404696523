"""What the benchmark of caches is told, and what it tells."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from benchmarks.cache import memory, tables
from benchmarks.cache.parts import Part, Plan
from benchmarks.orders.shop import DATABASES, SQLITE
from benchmarks.report import Report

PARTS: Mapping[str, Callable[[Plan], Part]] = MappingProxyType(
    {
        "costs": lambda plan: asyncio.run(memory.costs(plan)),
        "sizes": lambda plan: asyncio.run(memory.growth(plan)),
        "bytes": lambda plan: asyncio.run(memory.weights(plan)),
        "hits": lambda plan: asyncio.run(tables.hits(plan)),
        "catalog": tables.of_catalog,
        "herd": lambda plan: asyncio.run(tables.herds(plan)),
    }
)
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES, help="(default: both)")
    parser.add_argument("--rounds", type=int, default=15, help="in memory (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="at the catalog (default: %(default)s)")
    parser.add_argument("--reads", type=int, default=6_000, help="in each of these (default: %(default)s)")
    parser.add_argument("--looks", type=int, default=500_000, help="of the trace (default: %(default)s)")
    parser.add_argument("--things", type=int, default=100_000, help="keys, products (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> Report:
    plan = _quick(options.seed) if options.quick else _whole(options)
    parts = [PARTS[name](plan) for name in PARTS if name in options.part]
    settings = {
        "rounds": plan.rounds,
        "batches a round": plan.batches,
        "turns at the catalog": plan.turns,
        "reads a turn": plan.reads,
        "herds": plan.herds,
        "seed": plan.seed,
    }
    return Report(
        "cache",
        settings,
        [table for part in parts for table in part.tables],
        [promise for part in parts for promise in part.promises],
    )


def _whole(options: argparse.Namespace) -> Plan:
    return Plan(
        seed=options.seed,
        databases=options.database,
        rounds=options.rounds,
        batches=8,
        sizes=SIZES,
        weighed=100_000,
        things=options.things,
        looks=options.looks,
        turns=options.turns,
        reads=options.reads,
        herds=10,
        processes=4,
    )


def _quick(seed: int) -> Plan:
    return Plan(
        seed=seed,
        databases=[SQLITE],
        rounds=2,
        batches=1,
        sizes=SIZES[:2],
        weighed=1_000,
        things=1_000,
        looks=5_000,
        turns=1,
        reads=200,
        herds=1,
        processes=2,
    )
