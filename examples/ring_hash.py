"""ring_hash: calls with the same header go to the same replica, and a new replica takes over only its share of them."""

from __future__ import annotations

import asyncio
import sys

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas

import grpc_registry
from grpc_balancer import Channel

POLICY = {"ring_hash": {"requestHashHeader": "x-user"}}
USERS = [f"user-{number}" for number in range(100)]


async def main(url: str = "memory://") -> None:
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "one", "two", "three"),
        Channel("demo", registry, policy=POLICY, slow_start=0) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)

        async def homes() -> dict[str, str]:
            """The replica of each user."""
            return {user: await ask(stub, metadata=[("x-user", user)]) for user in USERS}

        await connected(channel, 3)
        before = await homes()
        print("user-7 is at", before["user-7"], "and again at", (await homes())["user-7"])
        print("the same for all users:", await homes() == before)

        async with replicas(registry, "four"):
            await connected(channel, 4)
            after = await homes()
            moved = [user for user in USERS if after[user] != before[user]]
            print(f"a fourth replica: {len(moved)} of {len(USERS)} users moved, to", {after[user] for user in moved})

        await connected(channel, 3)
        print("without it all are back:", await homes() == before)


asyncio.run(main(*sys.argv[1:]))
