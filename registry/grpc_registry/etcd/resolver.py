"""What is registered, kept current: list, watch from the next revision, and list again after whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from random import Random
from typing import Generic, Protocol

from grpc_registry.backoff import Backoff, keep_doing
from grpc_registry.errors import RegistryClosed, RegistryError
from grpc_registry.etcd import kv
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.kv import KeyRange, KeyValue
from grpc_registry.etcd.watch import Event, watch
from grpc_registry.feed import Feed, Known
from grpc_registry.instance import Unresolved
from grpc_registry.waiting import stop

RELIST_SECONDS = 300.0  # a list anyway, against whatever no event and no error told of


class Reads(Protocol[Known]):
    """What is known of a service, by what is in etcd."""

    def listed(self, service: str, revision: int, found: Sequence[KeyValue]) -> Known:
        """The snapshot at `revision`, from all that was found in the service's keys."""

    def folded(self, known: Known, events: Sequence[Event]) -> Known:
        """The snapshot after `events`, which are at least one and the next ones after `known`."""


class ServiceWatch(Generic[Known]):
    """Keeps a `Feed` current from one watch on the wire, for as long as anyone reads it."""

    def __init__(
        self,
        connection: Connection,
        reader: Reads[Known],
        service: str,
        keys: KeyRange,
        rng: Random,
        relist_seconds: float,
    ) -> None:
        self.feed: Feed[Known] = Feed(service)
        self.readers = 0
        self._service = service
        self._connection = connection
        self._reader: Reads[Known] = reader
        self._keys = keys
        self._rng = rng
        self._relist_seconds = relist_seconds
        self.task = asyncio.create_task(
            keep_doing(self._list_and_follow, Backoff(rng)), name=f"grpc_registry watch {service}"
        )

    async def _list_and_follow(self) -> None:
        """Until the watch breaks (raises why) or it is time for a list anyway (returns)."""
        try:
            revision, found = await kv.list_range(self._connection, self._keys)
        except RegistryError as error:
            self.feed.unreachable(str(error))
            raise
        snapshot = self._reader.listed(self._service, revision, found)
        self.feed.listed(snapshot)
        try:
            async with (
                asyncio.timeout(self._relist_seconds * self._rng.uniform(0.8, 1.2)),
                aclosing(watch(self._connection, self._keys, revision + 1)) as batches,
            ):
                async for events in batches:
                    snapshot = self._reader.folded(snapshot, events)
                    self.feed.folded(snapshot)
        except TimeoutError:
            return


class Resolver(Generic[Known]):
    """Shares one `ServiceWatch` per key range among all that read the same."""

    def __init__(
        self, connection: Connection, reader: Reads[Known], rng: Random, *, relist_seconds: float = RELIST_SECONDS
    ) -> None:
        self._connection = connection
        self._reader: Reads[Known] = reader
        self._rng = rng
        self._relist_seconds = relist_seconds
        self._watches: dict[KeyRange, ServiceWatch[Known]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def read(self, service: str, keys: KeyRange) -> AsyncGenerator[Known | Unresolved, None]:
        """Yield what is known of `service`, whose keys are `keys`. The first reader starts the watch on the wire."""
        if self._closed:
            raise RegistryClosed("the registry is closed")
        shared = self._watches.get(keys)
        if shared is None:
            shared = self._watches[keys] = ServiceWatch(
                self._connection, self._reader, service, keys, self._rng, self._relist_seconds
            )
        shared.readers += 1
        try:
            async with aclosing(shared.feed.read()) as resolutions:
                async for resolution in resolutions:
                    yield resolution
        finally:
            shared.readers -= 1
            if not shared.readers and self._watches.get(keys) is shared:
                del self._watches[keys]
                self._end(shared)

    async def close(self) -> None:
        """End every watch and the iteration of every reader."""
        self._closed = True
        for shared in self._watches.values():
            shared.feed.close()
            self._end(shared)
        self._watches.clear()
        await stop(*self._ending)

    def _end(self, shared: ServiceWatch[Known]) -> None:
        # Not awaited by the reader: it may be in the middle of being cancelled itself. `close` waits for what is left.
        shared.task.cancel()
        self._ending.add(shared.task)
        shared.task.add_done_callback(self._ending.discard)
