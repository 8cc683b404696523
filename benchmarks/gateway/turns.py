"""The three ways to a product, in turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import load
from benchmarks.gateway.load import Window
from benchmarks.gateway.servers import Servers, path_of
from benchmarks.report import percentile

GATEWAY, ENVOY, GRPC = "gateway", "Envoy", "gRPC"
WAYS = (GATEWAY, ENVOY, GRPC)
SERVICES = "services"
PERCENTILES = (50, 99)

_ROOT = Path(__file__).parents[2]
_LEAST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: so many rounds, each with a slice for each way. In seconds: a slice, and its warm-up."""

    rounds: int
    seconds: float
    warm: float


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice found: answers a second, ms until an answer by percentile, and µs of processor time an answer.

    The latter of the process that was asked (none for gRPC: who asks there is no process of its own), and of all the
    product services together. `refused`: how many more were told that there is too much to do.
    """

    rate: float
    times: Mapping[int, float]
    asked: float
    services: float
    refused: int


Measured = Mapping[str, Sequence[Slice]]
"""The slices of each way, in the order of the rounds."""


def measure(servers: Servers, connections: int, plan: Plan) -> Measured:
    """Load each way in turn, with so many connections."""
    slices: dict[str, list[Slice]] = {way: [] for way in WAYS}
    for number in range(plan.rounds):
        for way in _order(number):
            slices[way].append(_slice(servers, way, connections, plan))
    return slices


def _order(number: int) -> Iterator[str]:
    """Each way goes first, second and last equally often."""
    start = number % len(WAYS)
    yield from (*WAYS[start:], *WAYS[:start])


def _slice(servers: Servers, way: str, connections: int, plan: Plan) -> Slice:
    services = [str(service.pid) for service in servers.products]
    asked = servers.gateway if way == GATEWAY else servers.envoy if way == ENVOY else None
    pids = ",".join([*services, *([str(asked.pid)] if asked else [])])
    amount = [str(connections), str(plan.warm), str(plan.seconds), pids]
    if asked is None:
        ports = ",".join(str(service.port) for service in servers.products)
        command = ["-m", "benchmarks.gateway.direct", ports, *amount, *servers.ids]
    else:
        command = ["-I", load.__file__, str(asked.port), *amount, *map(path_of, servers.ids)]
    window = Window.read(_output([sys.executable, *command], plan.seconds + plan.warm))
    count = len(window.latencies)
    if not count:
        raise RuntimeError(f"{way}: all of {window.refused} requests by {connections} connections were refused")
    return Slice(
        window.rate,
        {percent: 1e3 * percentile(window.latencies, percent) for percent in PERCENTILES},
        1e6 * window.processor[str(asked.pid)] / count if asked else 0.0,
        1e6 * sum(window.processor[pid] for pid in services) / count,
        window.refused,
    )


def _output(command: Sequence[str], seconds: float) -> str:
    done = subprocess.run(  # noqa: S603 - of our own making
        command, check=False, capture_output=True, text=True, cwd=_ROOT, timeout=_LEAST_SECONDS + seconds
    )
    if done.returncode:
        raise RuntimeError(f"the load ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout
