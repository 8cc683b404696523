"""What the benchmark of the gateway is told, and what it tells."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

from benchmarks.gateway.envoy import VERSION, NoEnvoy, installed_envoy
from benchmarks.gateway.servers import running
from benchmarks.gateway.turns import ENVOY, GATEWAY, GRPC, PERCENTILES, WAYS, Measured, Plan, Slice, measure
from benchmarks.report import Cell, Promise, Report, Spread, Table

PROMISED_AT = 16
"""The number of connections at which the gateway is to be no slower than Envoy."""
LEAST = 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64], metavar="N")
    parser.add_argument("--rounds", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a slice takes (default: %(default)s)")
    parser.add_argument("--products", type=int, default=1, help="product services (default: %(default)s)")
    parser.add_argument("--envoy", type=Path, help="the program, if it is not to be installed")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> Report:
    plan = Plan(1, 0.3, 0.1) if options.quick else Plan(options.rounds, options.seconds, 0.3)
    try:
        program = options.envoy or installed_envoy()
    except NoEnvoy as error:
        sys.exit(f"bench gateway: {error}")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        running(Path(directory), program, products=options.products, rng=Random(options.seed)) as servers,
    ):
        results = {count: measure(servers, count, plan) for count in options.connections}
    settings = {
        "rounds": plan.rounds,
        "seconds a slice": plan.seconds,
        "product services": options.products,
        "Envoy": VERSION if options.envoy is None else str(options.envoy),
        "seed": options.seed,
    }
    promises = [
        Promise(f"requests a second ÷ Envoy's, {count} connections", _rates(measured)[1].median, LEAST, at_least=True)
        for count, measured in results.items()
        if count == PROMISED_AT and options.products == 1
    ]
    tables = [_rate_table(results), _time_table(results), _cost_table(results)]
    return Report("gateway", settings, tables, promises, _refusals(results))


Results = Mapping[int, Measured]


def _refusals(results: Results) -> list[str]:
    """A line on each load that was too much at times. Answers that say so are not counted."""
    lines = []
    for count, measured in results.items():
        refused = {way: sum(one.refused for one in slices) for way, slices in measured.items()}
        if any(refused.values()):
            each = ", ".join(f"{way} {number:,}" for way, number in refused.items())
            lines.append(f"{count} connections: requests refused for overload, and not counted: {each}")
    return lines


def _rate_table(results: Results) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for count, measured in results.items():
        rows.append((count, *_rates(measured), *(_spread(measured[way], lambda one: one.rate) for way in WAYS)))
    columns = ("connections", "gateway ÷ gRPC", "gateway ÷ Envoy", *WAYS)
    return Table("requests a second: median (lowest-highest) of the rounds", columns, tuple(rows))


def _rates(measured: Measured) -> tuple[Spread, Spread]:
    """The gateway's ÷ those of gRPC, and ÷ Envoy's."""
    grpc, envoy = (_ratio(measured[GATEWAY], measured[way], lambda one: one.rate) for way in (GRPC, ENVOY))
    return grpc, envoy


def _time_table(results: Results) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for count, measured in results.items():
        for percent in PERCENTILES:

            def time(one: Slice, percent: int = percent) -> float:
                return one.times[percent]

            ratios = [_ratio(measured[GATEWAY], measured[way], time) for way in (GRPC, ENVOY)]
            rows.append((count, f"p{percent}", *ratios, *(_spread(measured[way], time) for way in WAYS)))
    columns = ("connections", "time", "gateway ÷ gRPC", "gateway ÷ Envoy", *WAYS)
    return Table("ms until the answer", columns, tuple(rows))


def _cost_table(results: Results) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for count, measured in results.items():
        own = [_spread(measured[way], lambda one: one.asked) for way in (GATEWAY, ENVOY)]
        ratio = _ratio(measured[GATEWAY], measured[ENVOY], lambda one: one.asked)
        rows.append((count, ratio, *own, *(_spread(measured[way], lambda one: one.services) for way in WAYS)))
    columns = ("connections", "gateway ÷ Envoy", GATEWAY, ENVOY, *(f"services, by {way}" for way in WAYS))
    return Table("µs of processor time a request, of each process with all its threads", columns, tuple(rows))


def _spread(slices: Sequence[Slice], value: Callable[[Slice], float]) -> Spread:
    return Spread(tuple(map(value, slices)))


def _ratio(above: Sequence[Slice], below: Sequence[Slice], value: Callable[[Slice], float]) -> Spread:
    return Spread(tuple(value(one) / value(other) for one, other in zip(above, below, strict=True)))
