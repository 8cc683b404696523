"""A policy of one's own: a new version gets some percent of the calls, set by the service config."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas, tally

import grpc_registry
from grpc_balancer import CallInfo, Candidate, Channel, PickerFactory, register_policy


class Canary:
    """Made anew for each set of candidates, so all that can be prepared is prepared here."""

    def __init__(
        self, candidates: Sequence[Candidate], rng: random.Random, *, version: str = "", percent: float = 0
    ) -> None:
        new = [one for one in candidates if one.instance.version == version]
        old = [one for one in candidates if one.instance.version != version]
        self._new, self._old = new or old, old or new
        self._share = percent / 100
        self._rng = rng

    def pick(self, call: CallInfo) -> Candidate:
        """The least busy one of its version; `load.count` is how many calls it has in progress now."""
        group = self._new if self._rng.random() < self._share else self._old
        return min(group, key=lambda one: (one.load.count + self._rng.random()) / one.weight)


def configure(settings: Mapping[str, Any]) -> PickerFactory:
    """The settings come as they are in the config; a ValueError here refuses the config."""
    percent = settings.get("percent", 0)
    if not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise ValueError(f"percent {percent!r}: from 0 to 100")
    return partial(Canary, version=str(settings.get("version", "")), percent=percent)


register_policy("canary", Canary, configure=configure)


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "old-1", "old-2", version="1.4") as old,
        replicas(registry, "new", version="2.0") as new,
    ):
        policy = {"canary": {"version": "2.0", "percent": 5}}
        async with Channel("demo", registry, policy=policy, rng=random.Random(1)) as channel:
            await connected(channel, 3)
            stub = health_pb2_grpc.HealthStub(channel)
            for _ in range(400):
                await ask(stub)
            print(f"{channel.explain().policy}: {tally([*old, *new])}")


asyncio.run(main(*sys.argv[1:]))
