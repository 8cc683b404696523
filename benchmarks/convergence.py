"""How soon a client acts on a change: milliseconds from the change to the last call that does not know of it.

A real etcd, server processes, and a `Channel` with its defaults, over which eight callers make calls of 10 ms one
after another; the changes come over another connection to etcd. Each event is repeated, and its clock starts before the
change is asked for, so that the way into etcd is in the time:

- registered: from `register()` to the start of the first call that the new instance answers.
- drained: from `update(state=DRAINING)` to the start of the last call that the instance answers.
- killed: from `kill -9` of the server to the end of the last call that failed. Nothing is retried but what no server
  can have seen, so a failed call is a failed attempt. 0: no call was lost.
- configured: from `set_config()` to the start of the first call under the new service config, which changes a timeout;
  the server says how much time a call was given.

There is nothing to compare with: C-core has no resolver for etcd. The numbers are times of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio

import grpc_registry
from benchmarks.core import connected
from benchmarks.report import Promise, Report, Spread, Table, percentile
from benchmarks.server import SERVICE, Port, Servers, Stub
from grpc_balancer import Channel
from grpc_registry import Registration, Registry, State
from grpc_registry.instance import new_instance_id
from tests.servers import Etcd

IN_FORCE_WITHIN = 1_000.0
CALLERS = 8
_QUIET = 0.5
"""Seconds without a call of the kind that is waited for the last of."""
_DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A call; `name` is who answered, empty if it failed."""

    started: float
    ended: float
    name: str


@dataclass
class Traffic:
    """What became of the calls, in the order of their ends."""

    calls: list[Ended] = field(default_factory=list)

    def ended_since(self, moment: float) -> list[Ended]:
        return self.calls[bisect_left(self.calls, moment, key=lambda call: call.ended) :]

    async def first_start(self, since: float, name: str) -> float:
        """When the first call that began after `since` and that `name` answered began, once there is one."""
        async with asyncio.timeout(_DEADLINE):
            while True:
                its = [call.started for call in self.ended_since(since) if call.started >= since and call.name == name]
                if its:
                    return min(its)
                await asyncio.sleep(0.01)

    async def quiet(self, since: float, name: str) -> list[Ended]:
        """All calls that ended after `since` and that `name` answered (empty: that failed), once they have ceased."""
        async with asyncio.timeout(_DEADLINE):
            while True:
                its = [call for call in self.ended_since(since) if call.name == name]
                if time.perf_counter() - max([since, *(call.ended for call in its)]) > _QUIET:
                    return its
                await asyncio.sleep(0.05)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repetitions", type=int, default=15, help="(default: %(default)s)")


def run(options: argparse.Namespace) -> Report:
    repetitions = 1 if options.quick else options.repetitions
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        etcd = Etcd(directory / "etcd")
        stack.callback(etcd.kill)
        etcd.start()
        base = Servers(directory / "base", [Port(f"s{index}", seconds=0.010) for index in range(3)])
        other = Servers(directory / "other", [Port("other", seconds=0.010)])
        for servers in (base, other):
            stack.callback(servers.kill)
            servers.start()
        measured = asyncio.run(_measure(etcd.url, base, other, repetitions))
    rows = []
    for event, seconds in measured.items():
        spread = Spread(tuple(1e3 * value for value in seconds))
        rows.append((event, spread.median, percentile(spread.values, 95), spread.highest, spread))
    slowest = 1e3 * max(measured["configured → first call under the config"])
    return Report(
        "convergence",
        {"repetitions": repetitions, "callers": CALLERS},
        [
            Table(
                "ms until the client acts on a change",
                ("event", "p50", "p95", "max", "median (lowest-highest)"),
                tuple(rows),
            )
        ],
        [Promise("ms until a service config is in force, at most", slowest, IN_FORCE_WITHIN)],
    )


async def _measure(url: str, base: Servers, other: Servers, repetitions: int) -> dict[str, list[float]]:
    """Seconds, by event."""
    measured: dict[str, list[float]] = {}
    async with grpc_registry.connect(url) as owner, grpc_registry.connect(url) as registry:
        for port in base.ports:
            await _registered(owner, port)
        async with Channel(SERVICE, registry) as channel:
            await connected(channel, base.ports)
            for number in range(repetitions):
                if not other.running:
                    await asyncio.to_thread(other.start)
                async with _under_load(channel) as traffic:
                    for event, seconds in (
                        *(await _come_and_go(owner, traffic, other.ports[0])),
                        await _killed(owner, traffic, other),
                    ):
                        measured.setdefault(event, []).append(seconds)
                event, seconds = await _configured(owner, channel, 20 + 10 * number)
                measured.setdefault(event, []).append(seconds)
    return measured


async def _registered(owner: Registry, port: Port) -> Registration:
    # Under a new id each time, as a new process has, lest what its forerunner did counts against it.
    registration = owner.register(replace(port.instance(), id=new_instance_id()))
    async with asyncio.timeout(_DEADLINE):
        await registration.wait_registered()
    return registration


async def _come_and_go(owner: Registry, traffic: Traffic, port: Port) -> list[tuple[str, float]]:
    asked = time.perf_counter()
    registration = await _registered(owner, port)
    came = await traffic.first_start(asked, port.name) - asked
    asked = time.perf_counter()
    await registration.update(state=State.DRAINING)
    last = max((call.started for call in await traffic.quiet(asked, port.name)), default=asked)
    await registration.close()
    return [("registered → first call", came), ("drained → last pick", max(0.0, last - asked))]


async def _killed(owner: Registry, traffic: Traffic, servers: Servers) -> tuple[str, float]:
    port = servers.ports[0]
    begun = time.perf_counter()
    registration = await _registered(owner, port)
    await traffic.first_start(begun, port.name)
    asked = time.perf_counter()
    servers.kill()
    failed = await traffic.quiet(asked, "")
    await registration.close()
    return "killed → last failed attempt", max((call.ended for call in failed), default=asked) - asked


async def _configured(owner: Any, channel: grpc.aio.Channel, seconds: int) -> tuple[str, float]:
    """Give `TimeLeft` a timeout of so many seconds, ten more than any before."""
    names = [{"service": "bench.Server", "method": "TimeLeft"}]
    config = json.dumps({"methodConfig": [{"name": names, "timeout": f"{seconds}s"}]})
    stub = Stub(channel)
    asked = time.perf_counter()
    setting = asyncio.ensure_future(owner.set_config(SERVICE, config))
    async with asyncio.timeout(_DEADLINE):
        while True:
            started = time.perf_counter()
            answer = await stub.time_left(b"")
            if answer != b"None" and abs(float(answer) - seconds) < 5:  # on the wire timeouts are rounded
                break
            await asyncio.sleep(0.001)
        await setting
    return "configured → first call under the config", started - asked


@contextlib.asynccontextmanager
async def _under_load(channel: grpc.aio.Channel) -> AsyncIterator[Traffic]:
    traffic, stub = Traffic(), Stub(channel)

    async def caller() -> None:
        while True:
            started = time.perf_counter()
            try:
                name = (await stub.work(b"1", timeout=10)).decode()
            except grpc.aio.AioRpcError:
                name = ""
            traffic.calls.append(Ended(started, time.perf_counter(), name))

    callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
    try:
        yield traffic
    finally:
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
