"""The slowest calls when one of eight servers is slow, or fails: C-core's round_robin ÷ `Channel` with its defaults.

Eight servers of four slots each; a call holds a slot for an exponential time of 10 ms in the mean, at the slow server
of 100 ms, and waits while none is free. Calls arrive at random (Poisson, 350/s) whether or not earlier ones have ended,
and their latency counts from the moment at which they were due, so that no slowness hides in calls never made.

Why it is fair: both get the same calls (times of arrival and work from one seed) at the same moments, each over eight
servers of its own, so that whatever else the machine does hits both alike. Under round_robin the slow server gets 44
calls a second and can do 40, so its queue grows: the ratio depends on how long a run lasts, which is stated.

With several clients, each call belongs to one of them at random, and none knows what the others have in progress.

The failing server answers at once with UNAVAILABLE, so it always looks idle. Measured is its share of the calls:
without ejection, all the time (a fair share would be one in eight), and with the default ejection once that had two
seconds. Nothing is retried, so each failed call is an attempt there.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks.core import connected, core_channel
from benchmarks.report import Cell, Promise, Report, Spread, Table, percentile
from benchmarks.server import SERVICE, Port, Servers, Stub
from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Snapshot

LEAST_RATIO = 10.0
FAIR_SHARE = 100 / 8
FAILING_PART = 0.3
"""How long a run with a failing server is, in runs with a slow one, whose queue needs time to grow."""
NEXT_TO_NOTHING = 1.0
EJECTED_AFTER = 2.0
CORE, OURS, NO_EJECTION = "C-core round_robin", "ours", "ours, no ejection"
_NO_EJECTION = {
    "loadBalancingConfig": [
        {"outlier_detection_experimental": {"consecutiveFailures": 0, "childPolicy": [{"least_outstanding": {}}]}}
    ]
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call: when it is due (seconds from the start), how much work it is, and whose."""

    due: float
    work: float
    client: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call went: when it was due, and the seconds from then to its end."""

    due: float
    seconds: float
    failed: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="of a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="each with a seed of its own (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=350.0, help="calls a second (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="how many are several (default: %(default)s)")
    parser.add_argument("--policy", help="of our channels, instead of their default")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> Report:
    runs, seconds = (1, 0.5) if options.quick else (options.runs, options.seconds)
    ratios: list[tuple[Cell, ...]] = []
    promises = []
    for clients in (1, options.clients):
        results = [
            _measure(_arrivals(options.seed + number, seconds, options.rate, clients), clients, "slow", options.policy)
            for number in range(runs)
        ]
        p99 = {arm: _percentiles([result[arm] for result in results], 99) for arm in (CORE, OURS)}
        ratio = Spread(tuple(core / ours for core, ours in zip(p99[CORE].values, p99[OURS].values, strict=True)))
        for arm in (CORE, OURS):
            p50 = _percentiles([result[arm] for result in results], 50)
            ratios.append((_clients(clients), arm, p50, p99[arm], ratio if arm == OURS else None))
        promises.append(
            Promise(f"p99 under {CORE} ÷ ours, {_clients(clients)}", ratio.median, LEAST_RATIO, at_least=True)
        )
    shares: list[tuple[Cell, ...]] = []
    for clients in (1, options.clients):
        results = [
            _measure(
                _arrivals(options.seed + number, seconds * FAILING_PART, options.rate, clients),
                clients,
                "fails",
                options.policy,
            )
            for number in range(runs)
        ]
        for arm in (CORE, NO_EJECTION, OURS):
            early = Spread(tuple(_share(result[arm], 0, EJECTED_AFTER) for result in results))
            late = Spread(
                tuple(
                    _share(result[arm], min(EJECTED_AFTER, seconds * FAILING_PART / 2), seconds) for result in results
                )
            )
            shares.append((_clients(clients), arm, early, late))
            if arm == NO_EJECTION:
                text = f"% of the calls at a failing server without ejection, {_clients(clients)}"
                promises.append(Promise(text, late.median, FAIR_SHARE))
            elif arm == OURS:
                text = f"% of the calls at a failing server once it is ejected, {_clients(clients)}"
                promises.append(Promise(text, late.median, NEXT_TO_NOTHING))
    return Report(
        "tail",
        {
            "runs": runs,
            "seconds a run": f"{seconds:g} slow, {seconds * FAILING_PART:g} failing",
            "calls a second": options.rate,
            "policy": options.policy or "default",
            "seed": options.seed,
        },
        [
            Table(
                "one of eight servers is slow: ms, median (lowest-highest) of the runs",
                ("clients", "channel", "p50", "p99", "C-core's p99 ÷ ours"),
                tuple(ratios),
            ),
            Table(
                f"one of eight servers fails at once: % of the calls that it got (a fair share: {FAIR_SHARE})",
                ("clients", "channel", f"first {EJECTED_AFTER:g} s", "then"),
                tuple(shares),
            ),
        ],
        promises,
    )


def _clients(number: int) -> str:
    return "one client" if number == 1 else f"{number} clients"


def _percentiles(runs: Sequence[Sequence[Ended]], percent: float) -> Spread:
    """Milliseconds."""
    return Spread(tuple(1e3 * percentile([ended.seconds for ended in run], percent) for run in runs))


def _share(calls: Sequence[Ended], first: float, last: float) -> float:
    """Percent of the calls due in this time that failed."""
    failed = [ended.failed for ended in calls if first <= ended.due < last]
    return 100 * sum(failed) / max(1, len(failed))


def _arrivals(seed: int, seconds: float, rate: float, clients: int) -> list[Arrival]:
    rng = random.Random(seed)
    arrivals, now = [], rng.expovariate(rate)
    while now < seconds:
        arrivals.append(Arrival(now, rng.expovariate(1.0), rng.randrange(clients)))
        now += rng.expovariate(rate)
    return arrivals


def _measure(arrivals: Sequence[Arrival], clients: int, odd: str, policy: str | None) -> dict[str, list[Ended]]:
    """How the calls went, by what made them. The `odd` server is slow, or fails."""
    arms = (CORE, OURS) if odd == "slow" else (CORE, NO_EJECTION, OURS)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        servers = {arm: Servers(directory / arm.replace(" ", "-"), _ports(odd)) for arm in arms}
        for server in servers.values():
            stack.callback(server.kill)
            server.start()
        ports = {arm: server.ports for arm, server in servers.items()}
        return asyncio.run(_play(arrivals, clients, ports, policy))


def _ports(odd: str) -> list[Port]:
    seconds = 0.100 if odd == "slow" else 0.010
    return [Port("s0", 4, seconds, odd == "fails"), *(Port(f"s{index}", 4, 0.010) for index in range(1, 8))]


async def _play(
    arrivals: Sequence[Arrival], clients: int, ports: dict[str, tuple[Port, ...]], policy: str | None
) -> dict[str, list[Ended]]:
    """Let the calls arrive, each in all arms at once."""
    ended: dict[str, list[Ended]] = {arm: [] for arm in ports}
    async with AsyncExitStack() as stack:
        works: dict[str, list[Any]] = {}
        for arm, listening in ports.items():
            channels = [await stack.enter_async_context(_channel(arm, listening, policy)) for _ in range(clients)]
            for channel in channels:
                await connected(channel, listening)
            works[arm] = [Stub(channel).work for channel in channels]
        start = time.perf_counter()
        async with asyncio.TaskGroup() as calls:
            for arrival in arrivals:
                await asyncio.sleep(start + arrival.due - time.perf_counter())
                for arm, work in works.items():
                    calls.create_task(_call(work[arrival.client], arrival, start, ended[arm]))
    return ended


async def _call(work: Any, arrival: Arrival, start: float, ended: list[Ended]) -> None:
    failed = False
    try:
        await work(str(arrival.work).encode(), timeout=60)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        failed = True
    ended.append(Ended(arrival.due, time.perf_counter() - start - arrival.due, failed))


def _channel(arm: str, ports: Sequence[Port], policy: str | None) -> grpc.aio.Channel:
    if arm == CORE:
        return core_channel(ports)
    resolver = ManualResolver()
    resolver.push(Snapshot(SERVICE, 1, tuple(port.instance() for port in ports)))
    return Channel(SERVICE, resolver, policy=policy, service_config=_NO_EJECTION if arm == NO_EJECTION else None)
