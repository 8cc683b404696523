"""One of three servers is frozen by SIGSTOP: with hedging no call fails, and p99 is back to normal in ten seconds.

The service config of the channel hedges: a call that has no answer after a tenth of a second is sent to another server
as well. A frozen server keeps its connections and answers nothing; what tells of it is that it always loses. The first
quarter of the time all is well, then one server is frozen for half of it, and thaws for the last quarter.

Promised: no call fails. Within one interval of outlier detection (10 s) p99 is back to normal. It is taken for each
second; normal is at most twice what it was before the freeze, and the hedging delay; it is back when it has been normal
for five seconds in a row. From then until the thaw p99 is at most twice what it was before: not even hedges are needed.
Where this process, or one of the two other servers, stood still since the machine was busy with something else, that
time is taken off the calls that were under way; they must not fail, either.
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
from campaigns.standstill import Span, noted, without
from campaigns.traffic import Call, Work, by_method, by_server, told, traffic
from grpc_balancer import Channel
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
_IN_A_ROW = 5


async def run(directory: Path, *, seconds: float, rate: float, seed: int) -> Report:
    rng = Random(seed)

    def work(number: int) -> Work:
        return Work(REPEATABLE, rng.uniform(_LEAST_WORK, _MOST_WORK))

    loop, standstills = asyncio.get_running_loop(), list[Span]()
    async with stage(directory, seed=seed, service_config=SERVICE_CONFIG) as scene:
        victim = scene.servers[Random(seed).randrange(len(scene.servers))]
        with noted(standstills.append):
            async with traffic(scene.channel, rate, work) as made:
                began = loop.time()
                await asyncio.sleep(seconds / 4)
                frozen = loop.time()
                victim.pause()
                left_out = await _seconds_until_left_out(scene.channel, victim.id, seconds / 2)
                await asyncio.sleep(frozen + seconds / 2 - loop.time())
                thawed = loop.time()
                victim.resume()
                await asyncio.sleep(seconds / 4)
        for instance_id, journal in scene.journals().items():
            standstills += journal.standstills if instance_id != victim.id else ()
    calls = without(standstills, made.calls)
    taken_off = sum(call.elapsed for call in made.calls) - sum(call.elapsed for call in calls)
    before = _between(calls, began, frozen)
    during = _between(calls, frozen, thawed)
    usual = _p99(before)
    back = seconds_until_normal(normal_seconds(during, frozen, thawed, 2 * usual + HEDGING_DELAY))
    later = _between(during, frozen + min(back, OutlierDetection().interval), thawed)
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
                    _row(name, those)
                    for name, those in (
                        ("before", before),
                        *((f"frozen, second {n + 1}", _between(during, frozen + n, frozen + n + 1)) for n in range(3)),
                        ("frozen, after that", _between(during, frozen + 3, math.inf)),
                        ("thawed", _between(calls, thawed, math.inf)),
                    )
                    if those
                ),
            ),
        ],
        [
            Promise("failed calls", len(made.failed), 0),
            Promise(
                f"seconds until p99 is normal, {1e3 * (2 * usual + HEDGING_DELAY):.0f} ms or less",
                back,
                OutlierDetection().interval,
            ),
            Promise("p99 from then until the thaw, ms", 1e3 * _p99(later), 2e3 * usual),
        ],
        [
            f"the channel left the frozen server out after {left_out:.1f} s",
            f"a process stood still {len(standstills)} times: {taken_off:.1f} s are taken off what all calls took",
            *told(made.failed),
        ],
        "faults",
    )


async def _seconds_until_left_out(channel: Channel, instance_id: str, most: float) -> float:
    """How long the instance stays a candidate for calls; infinite if it does for all of `most` seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + most:
        if all(one.left_out for one in channel.explain().instances if one.instance.id == instance_id):
            return loop.time() - began
        await asyncio.sleep(0.02)
    return math.inf


def normal_seconds(calls: Sequence[Call], frozen: float, thawed: float, normal: float) -> list[bool]:
    """For each whole second from the freeze to the thaw, whether its p99 is at most `normal`."""
    seconds = [_between(calls, frozen + n, frozen + n + 1) for n in range(int(thawed - frozen))]
    return [not its or percentile([call.elapsed for call in its], 99) <= normal for its in seconds]


def seconds_until_normal(seconds: Sequence[bool]) -> float:
    """After how many of these seconds the first begins that is normal, as are those after it; infinite without."""
    for n in range(len(seconds) - _IN_A_ROW + 1):
        if all(seconds[n : n + _IN_A_ROW]):
            return n
    return math.inf


def _between(calls: Sequence[Call], begin: float, end: float) -> list[Call]:
    """Those that were due then."""
    return [call for call in calls if begin <= call.due < end]


def _p99(calls: Sequence[Call]) -> float:
    return percentile([call.elapsed for call in calls], 99) if calls else math.inf


def _row(name: str, calls: Sequence[Call]) -> tuple[str | int | float, ...]:
    took = [1e3 * call.elapsed for call in calls]
    failed = sum(1 for call in calls if call.failure)
    beyond = sum(1 for call in calls if call.elapsed > HEDGING_DELAY)
    return name, len(calls), failed, percentile(took, 50), percentile(took, 99), max(took), beyond
