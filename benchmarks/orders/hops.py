"""Bare JetStream as a line: messages go through as many hops as an order does, and nothing happens at any of them.

It is the shop's own nats-server, with streams and consumers as the shop makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from benchmarks.orders.hop import COUNT, TIMES, Hop, name, packed, publish, subject
from benchmarks.orders.line import Passage
from shop_services.messaging.bus import TOPICS

_ASK_WITHIN = 30.0


class Hops:
    """A `Line`. One has entered when the first stream has its message, and has left when the third hop gets its own."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._stream = connection.jetstream()
        self._entered = 0

    async def enter(self, due: float) -> None:
        await publish(self._stream, 0, packed(due))
        self._entered += 1

    async def waiting(self) -> int:
        return self._entered - int(await self._ask(COUNT))

    async def passages(self) -> list[Passage]:
        times = array("d", await self._ask(TIMES))
        return [Passage(*pair) for pair in zip(times[::2], times[1::2], strict=True)]

    async def _ask(self, what: str) -> bytes:
        return (await self._connection.request(what, timeout=_ASK_WITHIN)).data


@contextlib.asynccontextmanager
async def hops(url: str, directory: Path) -> AsyncIterator[Hops]:
    """The line over the nats-server at `url`, with a process for each hop until the end of the block."""
    connection = await nats.connect(url)
    try:
        stream = connection.jetstream()
        with ExitStack() as stack:
            processes = []
            for hop in range(len(TOPICS)):
                await stream.add_stream(_stream(hop))
                process = Hop(directory / name(hop), url, hop)
                stack.callback(process.kill)
                process.spawn()
                processes.append(process)
            for process in processes:
                await asyncio.to_thread(process.wait_ready)
            yield Hops(connection)
    finally:
        await connection.close()


def _stream(hop: int) -> StreamConfig:
    """As that of a topic."""
    return StreamConfig(
        name(hop),
        subjects=[subject(hop)],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        storage=StorageType.FILE,
    )
