"""What thousands of instances cost a client: 10,000 in 100 services in a real etcd, and idle endpoints by the thousand.

Another process has registered the instances; this one is the client, and its times and memory are those of a client.

- first snapshot: from a new connection to etcd to the snapshot, for one service, for each of the 100 at once, and for
  all in one watch. Wall time and CPU of this process, which decodes every instance.
- a change: one instance's weight is changed over and over, each time once the last change has arrived. CPU of this
  process a change, and the most memory that it takes meanwhile (measured apart, since measuring it takes time).
- idle endpoints: a `Channel` over 1,000 endpoints that are all connected, to one real server, each by a connection of
  its own. Growth of this process' resident memory, gRPC's share included; and the CPU of a change of one's weight.

The kinds take turns. There is nothing to compare with, so the numbers are this machine's; what they should show is that
a change costs a client of one service no more than that service, however many others there are.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grpc import ChannelConnectivity

import grpc_registry
from benchmarks.population import Population, population
from benchmarks.report import Cell, Report, Spread, Table
from benchmarks.server import SERVICE, Port, Servers, Stub
from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Registry, Resolution, Snapshot
from tests.servers import Etcd

_DEADLINE = 60.0


@dataclass
class Cost:
    """What one kind of thing took, each time."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    async def of(self, work: Awaitable[Any]) -> None:
        """Add the time and CPU of `work`."""
        cpu, start = time.process_time(), time.perf_counter()
        await work
        self.seconds.append(time.perf_counter() - start)
        self.cpu.append(time.process_time() - cpu)

    async def peak_of(self, work: Awaitable[Any]) -> None:
        """Add the most memory that `work` takes beyond what is taken before."""
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await work
        _, peak = tracemalloc.get_traced_memory()
        self.memory.append(peak - before)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--services", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--instances", type=int, default=100, help="of each service (default: %(default)s)")
    parser.add_argument("--endpoints", type=int, default=1_000, help="of the channel (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="of each first snapshot (default: %(default)s)")


def run(options: argparse.Namespace) -> Report:
    services, instances, endpoints, repetitions = (
        (3, 20, 20, 2)
        if options.quick
        else (options.services, options.instances, options.endpoints, options.repetitions)
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each endpoint has a connection; the server inherits this
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        server = Servers(directory / "server", [Port("s0")])
        stack.callback(server.kill)
        server.start()
        # Before anything else: afterwards, free memory of this process would take in a part of the endpoints.
        idle = asyncio.run(_idle(server.ports[0], endpoints, repetitions))
        etcd = Etcd(directory / "etcd")
        stack.callback(etcd.kill)
        etcd.start()
        first, changes = asyncio.run(_watched(etcd.url, services, instances, repetitions))
    first_rows: list[tuple[Cell, ...]] = [
        (kind, number, _spread(cost.seconds, 1e3), _spread(cost.cpu, 1e3)) for kind, (number, cost) in first.items()
    ]
    change_rows: list[tuple[Cell, ...]] = [
        (kind, number, _spread(cost.seconds, 1e3), _spread(cost.cpu, 1e3), _spread(cost.memory, 1 / 1024))
        for kind, (number, cost) in changes.items()
    ]
    change_rows.append(
        ("Channel, applied", endpoints, None, _spread(idle.change.cpu, 1e3), _spread(idle.change.memory, 1 / 1024))
    )
    return Report(
        "scale",
        {"services": services, "instances of each": instances, "endpoints": endpoints, "repetitions": repetitions},
        [
            Table("first snapshot", ("watched", "instances", "ms", "CPU ms"), tuple(first_rows)),
            Table(
                "one change: ms from asking for it until it is seen",
                ("watched", "instances", "ms", "CPU ms", "peak KiB"),
                tuple(change_rows),
            ),
            Table(
                "idle endpoints of a Channel, connected",
                ("endpoints", "KiB each, resident", "s until all are connected", "CPU ms each"),
                ((endpoints, idle.bytes_each / 1024, idle.seconds, 1e3 * idle.cpu / endpoints),),
            ),
        ],
    )


def _spread(values: list[float], factor: float) -> Spread:
    return Spread(tuple(value * factor for value in values))


# Registry


async def _watched(
    url: str, services: int, instances: int, repetitions: int
) -> tuple[dict[str, tuple[int, Cost]], dict[str, tuple[int, Cost]]]:
    """First snapshots, and changes: what was watched, how many instances that is, and what it took."""
    total = services * instances

    async def one(registry: Registry) -> None:
        await _first(registry.watch("service-0"), instances)

    async def each(registry: Registry) -> None:
        await asyncio.gather(*(_first(registry.watch(f"service-{number}"), instances) for number in range(services)))

    async def everything(registry: Registry) -> None:
        await _first(registry.watch_all(), total)

    kinds: dict[str, tuple[int, Callable[[Registry], Awaitable[None]]]] = {
        "one service": (instances, one),
        "each service": (total, each),
        "all in one watch": (total, everything),
    }
    first = {kind: (number, Cost()) for kind, (number, _) in kinds.items()}
    async with population(url, services, instances) as others:
        for _ in range(repetitions):
            for kind, (_, watch) in kinds.items():
                gc.collect()
                async with grpc_registry.connect(url) as registry:
                    await first[kind][1].of(watch(registry))
        changes = {"one service": (instances, Cost()), "all in one watch": (total, Cost())}
        for kind, (_, cost) in changes.items():
            async with grpc_registry.connect(url) as registry:
                watch_one = kind == "one service"
                async with aclosing(registry.watch("service-0") if watch_one else registry.watch_all()) as resolutions:
                    await _next_snapshot(resolutions)
                    for _ in range(4 * repetitions):
                        await cost.of(_seen(others, resolutions))
                    tracemalloc.start()
                    try:
                        for _ in range(repetitions):
                            await cost.peak_of(_seen(others, resolutions))
                    finally:
                        tracemalloc.stop()
    return first, changes


async def _first(resolutions: AsyncGenerator[Resolution, None], expected: int) -> None:
    async with aclosing(resolutions):
        snapshot = await _next_snapshot(resolutions)
    if len(snapshot.instances) != expected:
        raise RuntimeError(f"{len(snapshot.instances)} instances of {snapshot.service}, not {expected}")


async def _seen(others: Population, resolutions: AsyncGenerator[Resolution, None]) -> None:
    await others.change_one()
    await _next_snapshot(resolutions)


async def _next_snapshot(resolutions: AsyncGenerator[Resolution, None]) -> Snapshot:
    async with asyncio.timeout(_DEADLINE):
        while not isinstance(resolution := await anext(resolutions), Snapshot):
            pass
    return resolution


# Endpoints


@dataclass(frozen=True, slots=True)
class Idle:
    """What the endpoints of a channel took."""

    bytes_each: float
    seconds: float
    cpu: float
    change: Cost


async def _idle(port: Port, endpoints: int, repetitions: int) -> Idle:
    resolver, change = ManualResolver(), Cost()
    instances = [replace(port.instance(), id=f"e{number}") for number in range(endpoints)]
    async with Channel(SERVICE, resolver) as channel:
        resolver.push(Snapshot(SERVICE, 1, (port.instance(),)))
        await Stub(channel).name(b"", timeout=_DEADLINE)  # what a first call loads is no endpoint's
        gc.collect()
        memory, cpu, start = _resident(), time.process_time(), time.perf_counter()
        resolver.push(Snapshot(SERVICE, 2, (port.instance(), *instances)))
        async with asyncio.timeout(_DEADLINE):
            while _connected(channel) <= endpoints:  # noqa: ASYNC110  # a look at all after every change would be in the CPU
                await asyncio.sleep(0.05)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        gc.collect()
        memory = _resident() - memory

        async def changed(revision: int) -> None:
            instances[0] = replace(instances[0], weight=100 + revision)
            resolver.push(Snapshot(SERVICE, revision, (port.instance(), *instances)))
            await Stub(channel).name(b"", timeout=_DEADLINE)

        for revision in range(3, 3 + 4 * repetitions):
            await change.of(changed(revision))
        tracemalloc.start()
        try:
            for revision in range(1_000, 1_000 + repetitions):
                await change.peak_of(changed(revision))
        finally:
            tracemalloc.stop()
    return Idle(memory / endpoints, seconds, cpu, change)


def _connected(channel: Channel) -> int:
    endpoints = channel._dispatcher.balancer.endpoints  # noqa: SLF001  # nothing public tells how many
    return sum(endpoint.connectivity is ChannelConnectivity.READY for endpoint in endpoints)


def _resident() -> int:
    """Bytes of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
