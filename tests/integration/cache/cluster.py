"""Instances of the cache service in this process: real servers that find each other in a registry in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch
from uuid import uuid4

import grpc

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Registry, State
from grpc_registry.lifecycle import Lifecycle, serving
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.cache import peers, wiring
from shop_services.cache.peers import Peers
from shop_services.cache.wiring import NAME, wire
from shop_services.caching.direct import direct_channel
from shop_services.caching.ring import ROUTED_HEADER, Ring, ring_channel
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import Settings

SECONDS = 30
NAMESPACES = "n=lru;other=fifo;probes=lru"


@dataclass
class Member:
    """One instance, and a stub that asks it and no other."""

    instance: Instance
    stub: CacheServiceStub
    lifecycle: Lifecycle
    stack: AsyncExitStack = field(repr=False)


class Cluster:
    """Instances that share the keys. `registry` knows them, and they take calls with `credentials`.

    They have more patience with each other than a second: the machine may stand still for longer than that, and then
    a value that they keep is not lost, and a call that was passed on is not given up, of which nobody knows whether it
    was done.
    """

    def __init__(self, **settings: Any) -> None:
        self._url = f"memory://{uuid4().hex}"
        self._settings: dict[str, Any] = {"registry_url": self._url, "cache_namespaces": NAMESPACES} | settings
        self._settings.setdefault("lease_ttl", 3600)
        self._stack = AsyncExitStack()
        self.members: dict[str, Member] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(patch.object(wiring, "Peers", partial(Peers, seconds=SECONDS / 2)))
            stack.enter_context(patch.object(wiring, "MEET_SECONDS", SECONDS))
            stack.enter_context(patch.object(peers, "CLEAR_SECONDS", SECONDS))
            self._settings["data"] = Path(stack.enter_context(TemporaryDirectory()))
            self.credentials = operator_credentials(Settings(**self._settings))
            self.registry: Registry = await stack.enter_async_context(grpc_registry.connect(self._url))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for instance_id in list(self.members):
            await self.leave(instance_id)
        await self._stack.aclose()

    async def join(self, instance_id: str) -> Member:
        """Start one more instance; `agreed` waits until all know of it."""
        stack = AsyncExitStack()
        settings = Settings(**self._settings, instance_id=instance_id)
        registry = await stack.enter_async_context(grpc_registry.connect(self._url))
        app = await stack.enter_async_context(wire(settings, registry))
        server = make_server(app)
        instance = Instance(NAME, f"127.0.0.1:{server.grpc.add_insecure_port('127.0.0.1:0')}", id=instance_id)
        life = serving(server.grpc, registry, instance, health=server, propagation_delay=0, grace=1, signals=())
        lifecycle = await stack.enter_async_context(life)
        channel = OutgoingChannel(direct_channel(instance), None, credentials=self.credentials)
        stub = CacheServiceStub(await stack.enter_async_context(channel))
        self.members[instance_id] = Member(instance, stub, lifecycle, stack)
        app.registering(lifecycle.registrations[0])
        await lifecycle.registrations[0].wait_registered()
        return self.members[instance_id]

    async def leave(self, instance_id: str) -> None:
        """Drain an instance, and end it."""
        await self.members.pop(instance_id).stack.aclose()

    async def set_state(self, instance_id: str, state: State) -> None:
        """Take an instance out of rotation, as `meshctl drain` does, or back into it."""
        await self.registry.edit(NAME, instance_id, state=state)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel by the ring, connected to all that serve."""
        async with ring_channel(self.registry) as channel:
            await self.agreed(channel)
            yield channel

    async def agreed(self, *channels: Channel) -> Ring:
        """Return the ring of those that serve, once every instance and all the channels go by it."""
        serving = [each.instance for each in await self.registry.list(NAME) if each.instance.state is State.SERVING]
        ring = Ring(serving)
        probes: dict[str, list[str]] = {one.id: [] for one in serving}
        for number in itertools.count():
            owner = ring.owner("probes", str(number))
            if owner is None or all(len(keys) >= 3 for keys in probes.values()):
                break
            probes[owner.id].append(str(number))
        async with asyncio.timeout(SECONDS):
            for member in self.members.values():
                while not await self._passes_on(member, probes):  # noqa: ASYNC110 - nothing to await
                    await asyncio.sleep(0.005)
            for channel in channels:
                while {one.id for one in channel.instances} != probes.keys():  # noqa: ASYNC110 - nothing to await
                    await asyncio.sleep(0.005)
        return ring

    async def _passes_on(self, member: Member, probes: Mapping[str, Sequence[str]]) -> bool:
        """Whether what `member` is asked to set gets to the owners."""
        value = uuid4().bytes
        for owner, keys in probes.items():
            items = [pb.BatchSetItem(key=key, value=value) for key in keys]
            try:
                await member.stub.BatchSet(pb.BatchSetRequest(namespace="probes", items=items))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False  # it still goes to one that has left
            get = pb.BatchGetRequest(namespace="probes", keys=keys)
            got = await self.members[owner].stub.BatchGet(get, metadata=[(ROUTED_HEADER, "1")])
            if [entry.value for entry in got.entries] != [value] * len(keys):
                return False
        return True
