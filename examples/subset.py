"""Subsets: each client is connected to a few of many instances, always the same, and all clients together to all."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from replicas import connected, replicas

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Registry

NAMES = [f"r{number}" for number in range(8)]
CLIENTS = [f"client-{number}" for number in range(20)]


async def subset(registry: Registry, client: str) -> set[str]:
    """The instances that a client with this key is connected to. A good key is the name of its pod or machine."""
    async with Channel("demo", registry, max_endpoints=3, subset_key=client) as channel:
        await connected(channel, 3)
        return {one.instance.id for one in channel.explain().candidates}


async def subsets(registry: Registry) -> dict[str, set[str]]:
    found = await asyncio.gather(*(subset(registry, client) for client in CLIENTS))
    return dict(zip(CLIENTS, found, strict=True))


async def main(url: str = "memory://") -> None:
    async with grpc_registry.connect(url) as registry, replicas(registry, *NAMES) as servers:
        before = await subsets(registry)
        for client in CLIENTS[:3]:
            print(f"{client}: {sorted(before[client])}")
        print("the same after a restart:", await subsets(registry) == before)
        clients_of = Counter(name for members in before.values() for name in members)
        print(
            f"{len(CLIENTS)} clients; an instance has {min(clients_of.values())} to {max(clients_of.values())} of them"
        )

        await servers[0].lifecycle.drain()
        after = await subsets(registry)
        changed = sum(len(before[client] - after[client]) for client in CLIENTS)
        print(f"r0, which had {clients_of['r0']}, leaves: {changed} of {3 * len(CLIENTS)} connections change")


asyncio.run(main(*sys.argv[1:]))
