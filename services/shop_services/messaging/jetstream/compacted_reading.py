"""Reading the stream of a compacted log by direct requests, of which any server that has the stream may answer each.

Where there are replicas a server may be behind, or may think that it leads while others have another leader. So a
beacon is written into the log first, which takes a majority of them: what has been read up to it lacks nothing that was
acknowledged before. With one copy there is one server, which knows everything.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg

from shop_services.messaging.compacted import BATCH, Record
from shop_services.messaging.jetstream.connection import Link
from shop_services.messaging.jetstream.publishing import EXPECTED_STREAM, MESSAGE_ID
from shop_services.messaging.jetstream.reading import Condition, condition
from shop_services.messaging.jetstream.streams import (
    MIB,
    beacon_subject,
    compacted_key,
    compacted_stream,
    compacted_subject,
    stream_name,
)

CLEARED = "Shop-Cleared"
"""The header of a marker."""

_BATCH_BYTES = 8 * MIB
_BEHIND = 0.01  # seconds until a server that is behind is asked again
_PATIENCE = 5.0

_END, _NOTHING = "204", "404"


@dataclass(frozen=True, slots=True)
class Found:
    """A message of the log. `id` is what its writer called it; a beacon has no record."""

    sequence: int
    record: Record | None
    id: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of their sequences; whether there were more when they were asked for."""

    messages: list[Found]
    more: bool

    @property
    def last(self) -> int:
        return self.messages[-1].sequence if self.messages else 0


class LogReader:
    """Reads the log `log`. All methods raise `nats.errors.Error`, `ConnectionError` or `TimeoutError` in trouble, and
    wait for as long as the link's block does."""

    def __init__(self, log: str, *, replicated: bool) -> None:
        self._log, self._replicated = log, replicated
        self._stream = compacted_stream(log)

    async def condition(self, link: Link) -> Condition:
        """How the stream is. An answer says that it is open, too: one that is being closed seems to be empty."""
        return await condition(link, self._stream)

    async def since(self, link: Link, sequence: int) -> tuple[Batch, int]:
        """The messages after a sequence, and the sequence of the beacon that was written before; 0 without replicas."""
        beacon = await self._light(link)
        while True:
            batch = await self._fetch(link, {"seq": sequence + 1, "batch": BATCH, "max_bytes": _BATCH_BYTES})
            if batch.more or max(batch.last, sequence) >= beacon:
                return batch, beacon
            await asyncio.sleep(_BEHIND)

    async def latest(self, link: Link, key: str) -> Found | None:
        """The last message of a key."""
        subjects = [compacted_subject(self._log, key), beacon_subject(self._log)]
        beacon = await self._light(link)
        while True:
            batch = await self._fetch(link, {"multi_last": subjects})
            if batch.last >= beacon:
                break
            await asyncio.sleep(_BEHIND)
        for found in batch.messages:
            if found.record is not None:
                return found
        await self.condition(link)
        return None

    async def _light(self, link: Link) -> int:
        """Write the beacon, and return its sequence; 0 without replicas."""
        if not self._replicated:
            return 0
        headers = {EXPECTED_STREAM: stream_name(self._stream)}
        answer = await link.client.request(beacon_subject(self._log), timeout=_PATIENCE, headers=headers)
        told = json.loads(answer.data)
        if "error" in told:
            raise nats.errors.Error(told["error"].get("description", ""))
        return int(told["seq"])

    async def _fetch(self, link: Link, request: dict[str, object]) -> Batch:
        """What a direct request is answered. Raises `ConnectionError` if not all of it arrived."""
        came: list[Msg] = []
        ended: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def take(message: Msg) -> None:
            if "Status" not in (message.headers or {}):
                came.append(message)
            elif not ended.done():
                ended.set_result(message)

        inbox = link.client.new_inbox()
        subscribed = await link.client.subscribe(inbox, cb=take)
        try:
            subject = f"$JS.API.DIRECT.GET.{stream_name(self._stream)}"
            await link.client.publish(subject, json.dumps(request).encode(), reply=inbox)
            end = (await ended).headers or {}
        finally:
            with suppress(Exception):  # a lost connection has forgotten it
                await subscribed.unsubscribe()
        if end["Status"] == _NOTHING and not came:
            return Batch([], more=False)
        if end["Status"] != _END:
            raise ConnectionError(f"the server does not tell what there is: {end['Status']}")
        before = 0
        for message in came:
            if int(_header(message, "Nats-Last-Sequence")) != before:
                break
            before = int(_header(message, "Nats-Sequence"))
        if int(end["Nats-Last-Sequence"]) != before:
            raise ConnectionError("a message was lost on its way")
        return Batch([self._found(message) for message in came], more=int(end["Nats-Num-Pending"]) > 0)

    def _found(self, message: Msg) -> Found:
        headers = message.headers or {}
        subject, sequence = headers["Nats-Subject"], int(headers["Nats-Sequence"])
        record = None
        if subject != beacon_subject(self._log):
            record = Record(compacted_key(subject), message.data, sequence, CLEARED in headers)
        return Found(sequence, record, headers.get(MESSAGE_ID, ""))


def _header(message: Msg, name: str) -> str:
    return (message.headers or {})[name]
