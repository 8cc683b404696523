"""The cost of a pick at 10 to 10,000 endpoints, for every policy: flat, if it does not grow with their number.

Measured are the production pickers over endpoints without connections, whose weights (three different ones), calls in
progress and latencies are drawn from a seed. `pick` alone is timed, in batches; making a picker, once for each change
of the set, is shown apart. The sizes take turns, so that drift of the machine hits all alike. Each round gives a ratio
of the dearest size to the cheapest, and the median of these counts.

Ten endpoints fit into the fastest cache, ten thousand (some MB of Python objects) do not. So two things are measured:

- few endpoints: the random numbers and the calls' keys repeat after 64, so that the same few endpoints are looked at
  over and over and are in the cache, at every size. What still grows is the algorithm, and that is what is promised.
- any endpoint: fresh random numbers and keys, so that at 10,000 endpoints most picks wait for memory. The difference is
  what the machine adds. A policy that takes endpoints in order has no such difference.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from grpc import ChannelConnectivity

from benchmarks.report import Cell, Promise, Report, Spread, Table
from grpc_balancer import Picker, PickerFactory, policies
from grpc_balancer.load import Outcome
from grpc_balancer.pickers import policy_of
from grpc_balancer.testing import FakeEndpoint
from grpc_registry import Instance
from grpc_registry.service_config import Balancing, RingHash

LIMIT = 1.5
SIZES = (10, 100, 1_000, 10_000)
HEADER = "session"
FEW = 64
BATCH = 10 * FEW


@dataclass(frozen=True, slots=True)
class Call:
    """A call as pickers see it."""

    metadata: Sequence[tuple[str, str]]
    method: str = "/bench.Server/Echo"


class Repeating(random.Random):
    """Draws the same few numbers over and over, as fast as `random.Random` draws any."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        draws = [super(Repeating, self).random() for _ in range(FEW)]
        self.random = itertools.cycle(draws).__next__  # type: ignore[method-assign]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=25, help="(default: %(default)s)")
    parser.add_argument("--policy", nargs="+", default=policies(), metavar="NAME", help="(default: all)")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> Report:
    rounds, picks = (3, BATCH) if options.quick else (options.rounds, 8 * BATCH)
    endpoints = {size: _endpoints(size, random.Random(options.seed)) for size in SIZES}
    rows: list[tuple[Cell, ...]] = []
    made: list[tuple[Cell, ...]] = []
    promises = []
    for name in options.policy:
        for which, rng, keys in (
            ("few endpoints", Repeating(options.seed), FEW),
            ("any endpoint", random.Random(options.seed), picks),
        ):
            pickers, building = [], []
            for size in SIZES:
                start = time.perf_counter()
                pickers.append(_factory(name)(endpoints[size], rng))
                building.append(1e3 * (time.perf_counter() - start))
            costs = _measure(pickers, _calls(picks, keys, rng), rounds)
            flat = Spread(tuple(max(round_) / min(round_) for round_ in zip(*costs, strict=True)))
            rows.append((name, which, *(Spread(tuple(cost)) for cost in costs), flat))
            if which == "few endpoints":
                promises.append(Promise(f"{name}: dearest size ÷ cheapest, {which}", flat.median, LIMIT))
            if which == "any endpoint":
                made.append((name, *building))
    sizes = tuple(f"{size:,}" for size in SIZES)
    return Report(
        "pick",
        {"rounds": rounds, "picks a round": picks, "seed": options.seed},
        [
            Table(
                "µs a pick, by the number of endpoints: median (lowest-highest) of the rounds",
                ("policy", "picked", *sizes, "dearest ÷ cheapest"),
                tuple(rows),
            ),
            Table("ms to make a picker", ("policy", *sizes), tuple(made)),
        ],
        promises,
    )


def _factory(name: str) -> PickerFactory:
    return policy_of(Balancing(name, RingHash(header=HEADER) if name == "ring_hash" else None))


def _endpoints(size: int, rng: random.Random) -> list[FakeEndpoint]:
    endpoints = []
    for index in range(size):
        address = f"127.0.{index >> 8}.{index & 255}:50051"
        instance = Instance("bench", address, id=f"{rng.getrandbits(64):016x}", weight=rng.choice((50, 100, 200)))
        endpoint = FakeEndpoint(instance, ChannelConnectivity.READY)
        for _ in range(rng.randrange(6)):
            endpoint.load.begin()
        endpoint.load.record(Outcome.SUCCEEDED, rng.uniform(0.005, 0.02))
        endpoints.append(endpoint)
    return endpoints


def _calls(number: int, keys: int, rng: random.Random) -> list[Call]:
    named = [((HEADER, f"{rng.getrandbits(64):016x}"),) for _ in range(keys)]
    return [Call(named[index % keys]) for index in range(number)]


def _measure(pickers: Sequence[Picker], calls: Sequence[Call], rounds: int) -> list[list[float]]:
    """Microseconds a pick, of each picker in each round."""
    costs: list[list[float]] = [[] for _ in pickers]
    batches = [calls[start : start + BATCH] for start in range(0, len(calls), BATCH)]
    gc.collect()
    gc.disable()  # as timeit does
    try:
        for _ in range(rounds):
            spent: list[list[float]] = [[] for _ in pickers]
            for batch in batches:
                for picker, times in zip(pickers, spent, strict=True):
                    pick = picker.pick
                    start = time.perf_counter()
                    for call in batch:
                        pick(call)
                    times.append(time.perf_counter() - start)
            for cost, times in zip(costs, spent, strict=True):
                cost.append(1e6 * statistics.median(times) / BATCH)
    finally:
        gc.enable()
    return costs
