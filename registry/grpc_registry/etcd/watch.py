"""Events of a key range from a revision on, until something breaks; then the caller reads everything anew.

A broken watch is not resumed. Resuming from the last event's revision + 1 is safe against lost events, but not against
a store that was wiped or restored and has grown past that revision again; a fresh list is safe against both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from grpc_registry.errors import RegistryUnavailable
from grpc_registry.etcd import v3
from grpc_registry.etcd.connection import ATTEMPT_SECONDS, Connection
from grpc_registry.etcd.failures import Compacted, StaleToken
from grpc_registry.etcd.kv import KeyRange, KeyValue, key_value


@dataclass(frozen=True, slots=True)
class Deleted:
    """`key` was deleted, by hand or with its lease, at `mod_revision`."""

    key: bytes
    mod_revision: int


Event = KeyValue | Deleted


class Cursor:
    """How far a watch has come. Pure: it takes etcd's responses and gives the events that are complete."""

    def __init__(self, start: int) -> None:
        self.next_revision = start
        self._fragments: list[Event] = []

    def take(self, response: Any) -> tuple[Event, ...]:
        """The events that `response` completes, none of them given before.

        Raises:
            Compacted: the watch's place is no longer in the store, or the store went back to before it.
            StaleToken: etcd does not (or no longer) let us watch; to a watcher an old token is a missing permission.
            RegistryUnavailable: etcd ended the watch for another reason. The stream itself stays open then.
        """
        if response.canceled:
            raise self._ended(response)
        if response.created:
            # The header's revision is the store's, not how far we have read: it says whether the store went back.
            if response.header.revision < self.next_revision - 1:
                raise Compacted(f"the store went back to revision {response.header.revision}")
            return ()
        self._fragments += map(_event, response.events)
        if response.fragment:
            return ()  # one revision may be spread over several responses; it is seen whole or not at all
        events = tuple(event for event in self._fragments if event.mod_revision >= self.next_revision)
        self._fragments.clear()
        if events:
            self.next_revision = events[-1].mod_revision + 1
        return events

    def _ended(self, response: Any) -> Compacted | StaleToken | RegistryUnavailable:
        if response.compact_revision:
            return Compacted(f"revisions before {response.compact_revision} were compacted")
        if "permission denied" in response.cancel_reason or "auth" in response.cancel_reason:
            return StaleToken(f"etcd refuses the watch: {response.cancel_reason}")
        return RegistryUnavailable(f"etcd ended the watch: {response.cancel_reason or 'no reason given'}")


async def watch(connection: Connection, keys: KeyRange, start: int) -> AsyncGenerator[tuple[Event, ...], None]:
    """Yield what happens in `keys` from revision `start` on, batches in order and without a gap. Ends by raising.

    Raises what `Cursor.take` raises, and `RegistryUnavailable` when the stream breaks (a frozen member: within 14 s).
    """
    cursor = Cursor(start)
    create = v3.WatchCreateRequest(key=keys.first, range_end=keys.end, start_revision=start, fragment=True)
    async with connection.stream(v3.WATCH) as stream:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await stream.send(v3.WatchRequest(create_request=create))
                first = await stream.receive()
        except TimeoutError:
            raise RegistryUnavailable(f"no watch within {ATTEMPT_SECONDS:g} s") from None
        response = first
        while True:
            if events := cursor.take(response):
                yield events
            response = await stream.receive()


def _event(message: Any) -> Event:
    if message.type == v3.EVENT_DELETE:
        return Deleted(message.kv.key, message.kv.mod_revision)
    return key_value(message.kv)
