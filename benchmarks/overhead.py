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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks.core import connected, core_channel
from benchmarks.report import Promise, Report, Spread, Table
from benchmarks.server import SERVICE, Port, Servers, Stub
from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Snapshot

LIMIT = 1.05

Call = Callable[[bytes], Awaitable[bytes]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=11, help="at least 7 (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 32], metavar="N")
    parser.add_argument("--policy", help="of our channel, instead of its default")


def run(options: argparse.Namespace) -> Report:
    rounds, slices, calls = (2, 1, 64) if options.quick else (max(7, options.rounds), 16, 80)
    rows, promises = [], []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ports = [Port(f"s{index}") for index in range(3)]
        for port in ports:
            servers = Servers(directory / port.name, [port])
            stack.callback(servers.kill)
            servers.start()
        for in_flight in options.in_flight:
            calls = max(calls, 6 * in_flight)
            core, ours, again = asyncio.run(_measure(ports, options.policy, in_flight, rounds, slices, calls))
            ratio = _ratio(ours, [(one + other) / 2 for one, other in zip(core, again, strict=True)])
            rows.append((in_flight, ratio, _ratio(again, core), _microseconds(core), _microseconds(ours)))
            promises.append(Promise(f"CPU a call ÷ C-core round_robin's, {in_flight} in flight", ratio.median, LIMIT))
    columns = ("in flight", "ours ÷ C-core", "C-core ÷ itself", "C-core, µs a call", "ours, µs a call")
    return Report(
        "overhead",
        {"rounds": rounds, "slices a round and channel": 2 * slices, "policy": options.policy or "default"},
        [Table("client CPU a unary call: median (lowest-highest) of the rounds", columns, tuple(rows))],
        promises,
    )


async def _measure(
    ports: Sequence[Port], policy: str | None, in_flight: int, rounds: int, slices: int, calls: int
) -> tuple[list[float], list[float], list[float]]:
    """CPU seconds a call and round: C-core, ours, C-core again."""
    spent: tuple[list[float], list[float], list[float]] = ([], [], [])
    for number in range(rounds):
        async with AsyncExitStack() as stack:
            channels = await _channels(stack, ports, policy)
            order = [0, 1, 2] if number % 2 else [2, 1, 0]
            totals = [0.0, 0.0, 0.0]
            for which in (*order, *order):  # warm
                await _slice(channels[which], calls, in_flight)
            gc.collect()
            for which in (order + order[::-1]) * slices:
                totals[which] += await _slice(channels[which], calls, in_flight)
            for values, total in zip(spent, totals, strict=True):
                values.append(total / (2 * slices * calls))
    return spent


async def _channels(stack: AsyncExitStack, ports: Sequence[Port], policy: str | None) -> list[Call]:
    resolver = ManualResolver()
    resolver.push(Snapshot(SERVICE, 1, tuple(port.instance() for port in ports)))
    channels: list[grpc.aio.Channel] = [
        await stack.enter_async_context(core_channel(ports)),
        await stack.enter_async_context(Channel(SERVICE, resolver, policy=policy)),
        await stack.enter_async_context(core_channel(ports)),
    ]
    for channel in channels:
        await connected(channel, ports)
    return [Stub(channel).echo for channel in channels]


async def _slice(call: Call, calls: int, in_flight: int) -> float:
    """CPU seconds of this process while it makes so many calls."""

    async def caller(number: int) -> None:
        for _ in range(number):
            await call(b"")

    callers: list[Any] = [caller(calls // in_flight) for _ in range(in_flight)]
    start = time.process_time()
    await asyncio.gather(*callers)
    return time.process_time() - start


def _ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    return Spread(tuple(a / b for a, b in zip(above, below, strict=True)))


def _microseconds(seconds: Sequence[float]) -> Spread:
    return Spread(tuple(1e6 * value for value in seconds))
