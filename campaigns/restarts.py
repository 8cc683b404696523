"""Every server is restarted in turn by SIGTERM, again and again: no call fails.

Three servers, a `Channel` with its defaults, no service config: nothing is retried but what no server can have seen.
One server at a time is told to stop, drains, ends, and is started again at the same address; when it has registered
it is the next one's turn. One call in fifty takes a second, so that a drain has calls to wait for.

Promised: no call fails; no call is seen by two servers; every server ends with exit code 0.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import cycle
from pathlib import Path
from random import Random

from benchmarks.report import Promise, Report
from campaigns.server import ONCE
from campaigns.stage import Stage, stage
from campaigns.traffic import Work, by_method, by_server, told, traffic

_WORK, _LONG_WORK = 0.020, 1.0
_LONG_SHARE = 0.02


async def run(directory: Path, *, seconds: float, rate: float, seed: int) -> Report:
    rng = Random(seed)

    def work(number: int) -> Work:
        return Work(ONCE, _LONG_WORK if rng.random() < _LONG_SHARE else _WORK)

    async with stage(directory, seed=seed) as scene:
        async with traffic(scene.channel, rate, work) as made:
            restarts, codes = await _restart_in_turn(scene, asyncio.get_running_loop().time() + seconds)
        seen = Counter(number for journal in scene.journals().values() for number in journal.begun if number >= 0)
    return Report(
        "restarts",
        {"seconds": f"{seconds:g}", "calls a second": f"{rate:g}", "seed": seed},
        [by_method(made.calls), by_server(made.calls, restarts, "restarts")],
        [
            Promise("failed calls", len(made.failed), 0),
            Promise("calls that two servers have seen", sum(1 for times in seen.values() if times > 1), 0),
            Promise("servers that ended with another exit code than 0", sum(1 for code in codes if code), 0),
            Promise(
                "restarts of the server that had the fewest", min(restarts[s.name] for s in scene.servers), 1, True
            ),
        ],
        told(made.failed),
        "faults",
    )


async def _restart_in_turn(scene: Stage, until: float) -> tuple[Counter[str], list[int]]:
    """How often each server was restarted, and the exit codes. Each has its turn, however long that takes."""
    restarts, codes = Counter[str](), list[int]()
    loop = asyncio.get_running_loop()
    for server in cycle(scene.servers):
        if loop.time() >= until and len(restarts) == len(scene.servers):
            return restarts, codes
        codes.append(await asyncio.to_thread(server.terminate))
        await scene.start(server)
        restarts[server.name] += 1
    raise AssertionError("unreachable: a cycle has no end")
