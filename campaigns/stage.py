"""Where a scenario plays: an etcd, three servers that have registered there, and a channel to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio

import grpc_registry
from campaigns.server import REPEATABLE, SERVICE, Journal, Server
from grpc_balancer import Channel
from grpc_registry import Registry, Snapshot
from tests.servers import Etcd

SERVERS = 3
_COMES_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, running, and a channel with its defaults; `registry` is another connection than the channel's."""

    servers: tuple[Server, ...]
    channel: Channel
    registry: Registry

    async def start(self, server: Server) -> None:
        """Start `server`, and return when it is registered."""
        await asyncio.to_thread(server.start)
        await registered(self.registry, server)

    def journals(self) -> dict[str, Journal]:
        """What each instance that ever was has seen, by its id."""
        return {id: journal for server in self.servers for id, journal in server.journals().items()}


async def registered(registry: Registry, server: Server) -> None:
    """Return when the instance that was started last is registered. Raises `TimeoutError`."""
    async with asyncio.timeout(_COMES_WITHIN), aclosing(registry.watch(SERVICE)) as watch:
        async for known in watch:
            if isinstance(known, Snapshot) and any(instance.id == server.id for instance in known.instances):
                return


@contextlib.asynccontextmanager
async def stage(directory: Path, *, seed: int, service_config: Mapping[str, Any] | None = None) -> AsyncIterator[Stage]:
    """Set the stage; it is cleared in the end, whatever state it is in."""
    with ExitStack() as stack:
        etcd = Etcd(directory / "etcd")
        stack.callback(etcd.kill)
        await asyncio.to_thread(etcd.start)
        servers = tuple(Server(directory, f"s{number}", etcd.url) for number in range(SERVERS))
        for server in servers:
            stack.callback(server.kill)
            server.spawn()
        async with (
            grpc_registry.connect(etcd.url) as registry,
            grpc_registry.connect(etcd.url) as resolver,
            Channel(SERVICE, resolver, service_config=service_config, rng=Random(seed)) as channel,
        ):
            for server in servers:
                await asyncio.to_thread(server.wait_ready)
                await registered(registry, server)
            await _all_answer(channel, servers)
            yield Stage(servers, channel, registry)


async def _all_answer(channel: grpc.aio.Channel, servers: tuple[Server, ...]) -> None:
    """Return once each server has answered a call over the channel."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(REPEATABLE)
    missing = {server.id for server in servers}
    async with asyncio.timeout(_COMES_WITHIN):
        while missing:
            calls = (method(b"-1 0.005", wait_for_ready=True) for _ in servers)
            missing -= {answer.decode() for answer in await asyncio.gather(*calls)}
