"""One of three servers is frozen by SIGSTOP: with hedging no call fails, and p99 is back to normal in ten seconds.

The service config of the channel hedges: a call that has no answer after a tenth of a second is sent to another server
as well. A frozen server keeps its connections and answers nothing; what tells of it is that it always loses. The first
quarter of the time all is well, then one server is frozen for half of it, and thaws for the last quarter.

Promised: no call fails. Within one interval of outlier detection (10 s) p99 is back to normal, and stays so until the
thaw. Normal is at most twice what it was before, and the hedging delay. It is taken for each second.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import Promise, Report, Table, percentile
from campaigns.server import REPEATABLE
from campaigns.stage import stage
from campaigns.traffic import Call, Work, by_method, by_server, told, traffic
from grpc_registry.service_config import OutlierDetection

HEDGING_DELAY = 0.1
SERVICE_CONFIG: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [{"service": "faults.Server"}],
            "hedgingPolicy": {
                "maxAttempts": 3,
                "hedgingDelay": f"{HEDGING_DELAY}s",
                "nonFatalStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_LEAST_WORK, _MOST_WORK = 0.005, 0.015
_WINDOW = 1.0


async def run(directory: Path, *, seconds: float, rate: float, seed: int) -> Report:
    rng = Random(seed)

    def work(number: int) -> Work:
        return Work(REPEATABLE, rng.uniform(_LEAST_WORK, _MOST_WORK))

    loop = asyncio.get_running_loop()
    async with stage(directory, seed=seed, service_config=SERVICE_CONFIG) as scene:
        victim = scene.servers[Random(seed).randrange(len(scene.servers))]
        async with traffic(scene.channel, rate, work) as made:
            began = loop.time()
            await asyncio.sleep(seconds / 4)
            frozen = loop.time()
            victim.pause()
            await asyncio.sleep(seconds / 2)
            thawed = loop.time()
            victim.resume()
            await asyncio.sleep(seconds / 4)
    before = _between(made.calls, began, frozen)
    during = _between(made.calls, frozen, thawed)
    normal = 2 * percentile([call.elapsed for call in before], 99) + HEDGING_DELAY
    return Report(
        "freeze",
        {"seconds": f"{seconds:g}", "calls a second": f"{rate:g}", "seed": seed, "hedging delay, s": HEDGING_DELAY},
        [
            by_method(made.calls),
            by_server(made.calls, Counter([victim.name]), "freezes"),
            Table(
                "from before the freeze until after the thaw",
                ("when", "calls", "failed", "p50 ms", "p99 ms", "max ms", "beyond the hedging delay"),
                tuple(
                    _row(name, calls)
                    for name, calls in (
                        ("before", before),
                        *((f"frozen, second {n + 1}", _between(during, frozen + n, frozen + n + 1)) for n in range(3)),
                        ("frozen, after that", _between(during, frozen + 3, math.inf)),
                        ("thawed", _between(made.calls, thawed, math.inf)),
                    )
                    if calls
                ),
            ),
        ],
        [
            Promise("failed calls", len(made.failed), 0),
            Promise(
                f"seconds until p99 is normal, at most {1e3 * normal:.0f} ms",
                seconds_until_normal(during, frozen, thawed, normal),
                OutlierDetection().interval,
            ),
        ],
        told(made.failed),
        "faults",
    )


def seconds_until_normal(calls: Sequence[Call], frozen: float, thawed: float, normal: float) -> float:
    """When the last second ends in which p99 is above `normal`, counted from the freeze; infinite if it never ends."""
    last, windows = 0, math.ceil((thawed - frozen) / _WINDOW)
    for window in range(windows):
        began = frozen + window * _WINDOW
        took = [call.elapsed for call in _between(calls, began, began + _WINDOW)]
        if took and percentile(took, 99) > normal:
            last = window + 1
    return math.inf if last == windows else last * _WINDOW


def _between(calls: Sequence[Call], begin: float, end: float) -> list[Call]:
    """Those that were due then."""
    return [call for call in calls if begin <= call.due < end]


def _row(name: str, calls: Sequence[Call]) -> tuple[str | int | float, ...]:
    took = [1e3 * call.elapsed for call in calls]
    failed = sum(1 for call in calls if call.failure)
    beyond = sum(1 for call in calls if call.elapsed > HEDGING_DELAY)
    return name, len(calls), failed, percentile(took, 50), percentile(took, 99), max(took), beyond
