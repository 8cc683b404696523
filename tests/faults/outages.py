"""What can happen to etcd, and a small world that has to outlive it: three services, their owners, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Registration, Registry
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer
from tests.integration.client.load import Load
from tests.integration.client.proxy import Proxy
from tests.servers import Etcd, EtcdCluster
from tests.watching import ids, until

NAMES = ["s0", "s1", "s2"]

SHORT_TTL, USUAL_TTL = 5, 10
"""Seconds. The shorter is soon over where it is to be lost, and outlasts a test that stands still for three seconds."""
STARTED_WITHIN = 30.0
"""Seconds until what a test needs has begun, on a busy machine."""
NOTICED_WITHIN = 25.0
"""Seconds: 14 for a ping that is not answered, then a question of 2 s to each of three members, and some slack."""
BACK_WITHIN = 13.0
"""Seconds from the end of an outage until everything is registered: reconnection every 2.4 s, and slack. It is less
than a ping takes to be given up, so that nobody has waited for that."""
_STAYS = SHORT_TTL + 1.5
"""Seconds after which a lease that was left behind in etcd has certainly ended."""
_KEPT = 3.5
"""Seconds for which it is looked whether all stays, where no lease was lost."""


@dataclass
class Site:
    """Where the registry runs; with `proxies` everybody goes through them."""

    cluster: EtcdCluster
    proxies: tuple[Proxy, ...] = ()

    @property
    def members(self) -> tuple[Etcd, ...]:
        return self.cluster.members

    @property
    def url(self) -> str:
        ports = [one.port for one in self.proxies or self.members]
        return "etcd://" + ",".join(f"127.0.0.1:{port}" for port in ports)

    async def kill(self, *members: Etcd) -> None:
        await asyncio.gather(*(asyncio.to_thread(member.kill) for member in members))

    async def start(self) -> None:
        """Start all that are down, together, as a cluster has to be."""
        down = [member for member in self.members if not member.running]
        for member in down:
            await asyncio.to_thread(member.spawn)
        await asyncio.gather(*(asyncio.to_thread(member.wait_ready) for member in down))

    async def leader(self) -> Etcd:
        """The one whom all follow, as soon as there is one: a member that was slow for half a second is voted out."""
        async with asyncio.timeout(STARTED_WITHIN):
            while True:
                try:
                    answers = json.loads(await asyncio.to_thread(self.cluster.ctl, "endpoint", "status", "-w", "json"))
                except subprocess.CalledProcessError:  # etcdctl gives each 5 s to answer, which a busy machine may need
                    continue
                ids = {one["Status"]["header"]["member_id"]: one["Endpoint"] for one in answers}
                followed = {ids.get(one["Status"]["leader"]) for one in answers}
                for member in self.members:
                    if followed == {member.endpoints}:
                        return member


Act = Callable[[Site], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a registry of `members`, and its end.

    `away`: whether nobody gets an answer meanwhile. Then clients know that what they know is stale, and every owner
    loses its lease. Else everything goes on, perhaps late. `heard`: whether etcd is heard all the while; then it tells
    of the end of leases until the client knows better.
    """

    begin: Act
    end: Act
    members: int = 1
    proxied: bool = False
    away: bool = True
    heard: bool = False


@contextlib.asynccontextmanager
async def site(fault: Fault, directory: Path) -> AsyncIterator[Site]:
    """A registry on which `fault` can be tried."""
    cluster = EtcdCluster(directory, size=fault.members)
    made = Site(cluster)
    try:
        await made.start()
        if fault.proxied:
            made.proxies = tuple([await Proxy(member.port).start() for member in made.members])
        yield made
    finally:
        for proxy in made.proxies:
            await proxy.stop()
        cluster.kill()


@contextlib.asynccontextmanager
async def calls(channel: grpc.aio.Channel) -> AsyncIterator[Load]:
    """One call after another, with a pause of 20 ms."""
    load, stop, echo = Load(), asyncio.Event(), Echo(channel)

    async def call() -> bytes:
        return await echo.unary_unary(b"name", timeout=10)

    async def caller() -> None:
        while not stop.is_set():
            await load.record(call())
            await asyncio.sleep(0.02)

    task = asyncio.create_task(caller())
    try:
        yield load
    finally:
        stop.set()
        await task


async def all_answer(load: Load, *names: str) -> None:
    """Return once each of these has answered ten more calls, and nobody else has answered any."""
    load.answers.clear()
    await load.until(lambda: all(load.answers[name] >= 10 for name in names))
    assert set(load.answers) == set(names)


@contextlib.asynccontextmanager
async def owner(url: str, server: EchoServer, ttl: int) -> AsyncIterator[tuple[Registry, Registration]]:
    """`server`, registered as by a process of its own."""
    async with grpc_registry.connect(url, ttl=ttl, timeout=NOTICED_WITHIN, close_timeout=1) as registry:
        registration = registry.register(server.instance())
        async with asyncio.timeout(STARTED_WITHIN):
            await registration.wait_registered()
        yield registry, registration


@contextlib.asynccontextmanager
async def echo_servers(*names: str) -> AsyncIterator[list[EchoServer]]:
    """Running servers of these names."""
    servers = [await EchoServer(name).start() for name in names]
    try:
        yield servers
    finally:
        for server in servers:
            await server.stop()


def session(registry: Registry) -> Any:
    """What holds the lease."""
    return registry._session  # type: ignore[attr-defined]


async def outlive(fault: Fault, directory: Path) -> None:
    """Go through an outage and hold everybody to the contract; raises where it is broken."""
    ttl = SHORT_TTL if fault.away else USUAL_TTL
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(site(fault, directory))
        servers = await stack.enter_async_context(echo_servers(*NAMES))
        owners = [await stack.enter_async_context(owner(where.url, server, ttl)) for server in servers]
        reader = await stack.enter_async_context(grpc_registry.connect(where.url, rng=Random(1)))
        channel = await stack.enter_async_context(Channel("echo", reader))
        async with asyncio.timeout(STARTED_WITHIN):
            await all_connected(channel)
        watch = await stack.enter_async_context(aclosing(reader.watch("echo")))
        await until(watch, lambda known: ids(known) == NAMES, seconds=STARTED_WITHIN)
        load = await stack.enter_async_context(calls(channel))
        leases = [session(registry).lease for registry, _ in owners]

        await fault.begin(where)
        if fault.away:
            known = await until(watch, lambda known: known.stale, seconds=NOTICED_WITHIN)
            assert fault.heard or ids(known) == NAMES  # (b)
            async with asyncio.timeout(NOTICED_WITHIN):
                for (registry, registration), lease in zip(owners, leases, strict=True):
                    await session(registry).until_lost(lease)
                    assert not registration.registered
        else:
            await owners[0][1].update(weight=50)
            known = await until(watch, lambda known: known.instances[0].weight == 50, seconds=NOTICED_WITHIN)
        await all_answer(load, *NAMES)  # (a)
        await fault.end(where)

        ended = time.monotonic()
        if known.stale:
            known = await until(watch, lambda known: not known.stale and ids(known) == NAMES, seconds=BACK_WITHIN)
        assert ids(known) == NAMES  # (c)
        async with asyncio.timeout(ended + BACK_WITHIN - time.monotonic()):
            for _, registration in owners:
                await registration.wait_registered()  # (e)
        with contextlib.suppress(TimeoutError):
            changed = await until(
                watch, lambda known: known.stale or ids(known) != NAMES, seconds=_STAYS if fault.away else _KEPT
            )
            raise AssertionError(f"what was right did not stay so: {changed}")
        listed = {listing.instance: listing.lease_ttl for listing in await reader.list("echo")}
        assert listed == {registration.instance: ttl for _, registration in owners}
        kept = [session(registry).lease is lease for (registry, _), lease in zip(owners, leases, strict=True)]
        assert kept == [not fault.away] * len(NAMES)
        await all_answer(load, *NAMES)
        assert load.errors == []  # (a)
