"""Client CPU a unary call: `Channel` with its defaults ÷ C-core's own round_robin, over the same three servers.

Why it is fair: both send the same bytes to the same three processes, from one client process, whose CPU time (all of
its threads: gRPC's are part of the price) is all that counts; the servers' is not in it. The call is the smallest there
is: empty, unary, without deadline, metadata or serializer, so that nothing dilutes what balancing costs. Both begin
each round with new channels and a connection to each server.

Why it is steady: a round is many short slices in the order A B C C B A …, so that whatever else the machine does hits
all of them alike. A is C-core, B is ours, and C is C-core once more: C ÷ A shows how far from 1 the ratio of two equal
things comes out in this run, and ours is divided by the mean of both. The medians of the rounds' ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from benchmarks.core import blocking_connected, blocking_core_channel, connected, core_channel
from benchmarks.report import Promise, Report, Spread, Table
from benchmarks.server import SERVICE, BlockingStub, Port, Servers, Stub
from grpc_balancer import Channel, sync
from grpc_balancer.testing import ManualResolver
from grpc_registry import Snapshot

LIMIT = 1.05

Spent = tuple[list[float], list[float], list[float]]
"""CPU seconds a call in each round: C-core, ours, C-core once more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: so many rounds, each of so many slices for each channel."""

    in_flight: int
    rounds: int
    blocks: int
    calls_each: int
    policy: str | None

    def turns(self, number: int) -> Iterator[tuple[int, bool]]:
        """Which channel has each slice of a round, and whether it counts: the first ones warm up."""
        order = (0, 1, 2) if number % 2 else (2, 1, 0)
        for which in order * 2:
            yield which, False
        gc.collect()
        for which in (*order, *reversed(order)) * self.blocks:
            yield which, True

    def add(self, totals: Sequence[float], spent: Spent) -> None:
        for values, total in zip(spent, totals, strict=True):
            values.append(total / (2 * self.blocks * self.calls_each * self.in_flight))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=11, help="at least 7 (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 32], metavar="N")
    parser.add_argument("--policy", help="of our channel, instead of its default")
    parser.add_argument("--sync", action="store_true", help="the blocking channels, called from threads: no promise")


def run(options: argparse.Namespace) -> Report:
    rounds, blocks, calls = (2, 1, 60) if options.quick else (max(7, options.rounds), 16, 80)
    kind = "blocking" if options.sync else "grpc.aio"
    rows, promises = [], []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ports = [Port(f"s{index}") for index in range(3)]
        for port in ports:
            servers = Servers(directory / port.name, [port])
            stack.callback(servers.kill)
            servers.start()
        for in_flight in options.in_flight:
            plan = Plan(in_flight, rounds, blocks, max(6, calls // in_flight), options.policy)
            core, ours, again = _measure_blocking(ports, plan) if options.sync else asyncio.run(_measure(ports, plan))
            ratio = _ratio(ours, [(one + other) / 2 for one, other in zip(core, again, strict=True)])
            rows.append((in_flight, ratio, _ratio(again, core), _microseconds(core), _microseconds(ours)))
            if not options.sync:
                text = f"CPU a call ÷ C-core round_robin's, {in_flight} in flight"
                promises.append(Promise(text, ratio.median, LIMIT))
    columns = ("in flight", "ours ÷ C-core", "C-core ÷ itself", "C-core, µs a call", "ours, µs a call")
    return Report(
        "overhead",
        {"channels": kind, "rounds": rounds, "slices a round": 6 * blocks, "policy": options.policy or "default"},
        [Table("client CPU a unary call: median (lowest-highest) of the rounds", columns, tuple(rows))],
        promises,
    )


async def _measure(ports: Sequence[Port], plan: Plan) -> Spent:
    """CPU seconds a call and round, of grpc.aio channels."""
    spent: Spent = ([], [], [])
    for number in range(plan.rounds):
        async with AsyncExitStack() as stack:
            channels: list[grpc.aio.Channel] = [
                await stack.enter_async_context(core_channel(ports)),
                await stack.enter_async_context(Channel(SERVICE, _resolver(ports), policy=plan.policy)),
                await stack.enter_async_context(core_channel(ports)),
            ]
            for channel in channels:
                await connected(channel, ports)
            calls = [Stub(channel).echo for channel in channels]
            totals = [0.0, 0.0, 0.0]
            for which, counts in plan.turns(number):
                taken = await _slice(calls[which], plan)
                totals[which] += taken if counts else 0.0
        plan.add(totals, spent)
    return spent


async def _slice(call: Callable[[bytes], Awaitable[bytes]], plan: Plan) -> float:
    """CPU seconds of this process while so many callers make their calls."""

    async def caller() -> None:
        for _ in range(plan.calls_each):
            await call(b"")

    callers = [caller() for _ in range(plan.in_flight)]
    start = time.process_time()
    await asyncio.gather(*callers)
    return time.process_time() - start


def _measure_blocking(ports: Sequence[Port], plan: Plan) -> Spent:
    """As `_measure`, of blocking channels: each caller is a thread."""
    spent: Spent = ([], [], [])
    with ThreadPoolExecutor(plan.in_flight) as threads:
        for number in range(plan.rounds):
            with ExitStack() as stack:
                channels: list[grpc.Channel] = [
                    stack.enter_context(blocking_core_channel(ports)),
                    stack.enter_context(sync.Channel(SERVICE, lambda: _resolver(ports), policy=plan.policy)),
                    stack.enter_context(blocking_core_channel(ports)),
                ]
                for channel in channels:
                    blocking_connected(channel, ports)
                calls = [BlockingStub(channel).echo for channel in channels]
                totals = [0.0, 0.0, 0.0]
                for which, counts in plan.turns(number):
                    taken = _blocking_slice(calls[which], plan, threads)
                    totals[which] += taken if counts else 0.0
            plan.add(totals, spent)
    return spent


def _blocking_slice(call: Callable[[bytes], bytes], plan: Plan, threads: ThreadPoolExecutor) -> float:
    def caller() -> None:
        for _ in range(plan.calls_each):
            call(b"")

    start = time.process_time()
    for ended in [threads.submit(caller) for _ in range(plan.in_flight)]:
        ended.result()
    return time.process_time() - start


def _resolver(ports: Sequence[Port]) -> ManualResolver:
    resolver = ManualResolver()
    resolver.push(Snapshot(SERVICE, 1, tuple(port.instance() for port in ports)))
    return resolver


def _ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    return Spread(tuple(a / b for a, b in zip(above, below, strict=True)))


def _microseconds(seconds: Sequence[float]) -> Spread:
    return Spread(tuple(1e6 * value for value in seconds))
