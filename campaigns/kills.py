"""Servers are killed by `kill -9` at random moments: no call of a method marked idempotent fails.

Three servers and two methods, called by turns. The service config of the channel lets `Repeatable` be retried after
UNAVAILABLE; it says nothing of `Once`. The pauses between kills, and how long the killed server stays away, are drawn
from the seed; two of the three may be away at once, never all. A lease outlives its process by up to ten seconds, so
the registry goes on to list the dead.

Promised: no call of `Repeatable` fails. A call of `Once` fails only where its request may have reached the process
that was killed: its journal has it, or no journal has it and it was under way when the connection broke. No call of
`Once` is seen by two servers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import Promise, Report, Table
from campaigns.server import ONCE, REPEATABLE, Journal, Server
from campaigns.stage import Stage, stage
from campaigns.traffic import Call, Work, by_method, by_server, told, traffic
from grpc_balancer import Channel

SERVICE_CONFIG: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [{"service": "faults.Server", "method": "Repeatable"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_LEAST_WORK, _MOST_WORK = 0.005, 0.050
_MEAN_PAUSE = 2.0
_LEAST_AWAY, _MOST_AWAY = 0.1, 3.0
_LOOKS, _PAUSE = 50, 0.01
"""How often it is looked whether the client knows of a kill, since the kernel closes the connection at once, and the
seconds in between. It is looks that count: while the client does not run it cannot know."""
_CONNECTED_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Kill:
    """An instance that was killed after the first of two moments; at the second the client knew, or should have."""

    id: str
    before: float
    after: float


async def run(directory: Path, *, seconds: float, rate: float, seed: int) -> Report:
    rng, chaos = Random(seed), Random(seed + 1)

    def work(number: int) -> Work:
        return Work((REPEATABLE, ONCE)[number % 2], rng.uniform(_LEAST_WORK, _MOST_WORK))

    async with stage(directory, seed=seed, service_config=SERVICE_CONFIG) as scene:
        async with traffic(scene.channel, rate, work) as made:
            kills = await _kill_at_random(scene, chaos, seconds)
        journals = scene.journals()
    once = [call for call in made.calls if call.method == ONCE]
    lost = [call for call in once if call.failure]
    read = [call for call in lost if was_read(call, kills, journals)]
    unread = [call for call in lost if call not in read and may_have_been_sent(call, kills, journals)]
    unexplained = [call for call in lost if call not in read and call not in unread]
    repeatable = [call for call in made.failed if call.method == REPEATABLE]
    seen = Counter(number for journal in journals.values() for number in journal.begun)
    return Report(
        "kills",
        {"seconds": f"{seconds:g}", "calls a second": f"{rate:g}", "seed": seed},
        [
            by_method(made.calls),
            by_server(made.calls, Counter(kill.id.rpartition("-")[0] for kill in kills), "kills"),
            Table(
                f"the {len(lost)} failed calls of {ONCE}",
                ("where the request was", "calls"),
                (
                    ("in progress at the process that was killed", len(read)),
                    ("on its way when a process was killed, and read by none", len(unread)),
                    ("elsewhere", len(unexplained)),
                ),
            ),
        ],
        [
            Promise(f"failed calls of {REPEATABLE}", len(repeatable), 0),
            Promise(f"calls of {ONCE} that failed though no dead process may have had them", len(unexplained), 0),
            Promise(f"calls of {ONCE} that two servers have seen", sum(seen[call.number] > 1 for call in once), 0),
            Promise("kills", len(kills), 1, at_least=True),
        ],
        [*told(repeatable), *told(unexplained)],
        "faults",
    )


def was_read(call: Call, kills: Sequence[Kill], journals: Mapping[str, Journal]) -> bool:
    """Whether the call began in a process that was killed before it ended, and in no other."""
    at = [id for id, journal in journals.items() if call.number in journal.begun]
    return len(at) == 1 and any(kill.id == at[0] and call.ended >= kill.before for kill in kills)


def may_have_been_sent(call: Call, kills: Sequence[Kill], journals: Mapping[str, Journal]) -> bool:
    """Whether the call was under way to a server, which did not read it, when one was killed.

    A call that found no endpoint was under way to none.
    """
    if any(call.number in journal.begun for journal in journals.values()):
        return False
    if not call.failure.startswith("UNAVAILABLE") or "no endpoint" in call.failure:
        return False
    return any(call.began <= kill.after and call.ended >= kill.before for kill in kills)


async def _kill_at_random(scene: Stage, rng: Random, seconds: float) -> list[Kill]:
    loop = asyncio.get_running_loop()
    until, kills, up = loop.time() + seconds, list[Kill](), list(scene.servers)
    async with asyncio.TaskGroup() as returns:

        async def come_back(server: Server, pause: float) -> None:
            await asyncio.sleep(pause)
            await scene.start(server)
            async with asyncio.timeout(_CONNECTED_WITHIN):  # so that there is one left after the next kill
                while not _is_candidate(scene.channel, server.id):  # noqa: ASYNC110 - nothing to await
                    await asyncio.sleep(_PAUSE)
            up.append(server)

        while loop.time() < until:
            await asyncio.sleep(min(rng.expovariate(1 / _MEAN_PAUSE), until - loop.time()))
            victim = rng.choice(sorted(scene.servers, key=lambda server: server.name))
            pause = rng.uniform(_LEAST_AWAY, _MOST_AWAY)
            if victim in up and len(up) > 1:
                up.remove(victim)
                before = loop.time()
                victim.kill()
                for _ in range(_LOOKS):
                    if not _is_candidate(scene.channel, victim.id):
                        break
                    await asyncio.sleep(_PAUSE)
                kills.append(Kill(victim.id, before, loop.time()))
                returns.create_task(come_back(victim, pause))
    return kills


def _is_candidate(channel: Channel, instance_id: str) -> bool:
    """Whether calls may be sent there."""
    return any(one.instance.id == instance_id for one in channel.explain().candidates)
