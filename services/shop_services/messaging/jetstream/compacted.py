"""The compacted log on NATS JetStream: a stream with a subject a key, of which the last message is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

from shop_services.messaging.bus import BusFull, BusUnavailable
from shop_services.messaging.compacted import MARKER_AGE, Record, Superseded, check_key, check_put
from shop_services.messaging.jetstream.compacted_follower import JetStreamFollower
from shop_services.messaging.jetstream.compacted_reading import CLEARED, Found, LogReader
from shop_services.messaging.jetstream.connection import Connection, Link
from shop_services.messaging.jetstream.publishing import TIMEOUT, Publisher, WrongSequence
from shop_services.messaging.jetstream.pulling import TROUBLE
from shop_services.messaging.jetstream.reading import held
from shop_services.messaging.jetstream.streams import (
    ACK_WAIT,
    Limits,
    Streams,
    compacted_stream,
    compacted_subject,
    stream_name,
)
from shop_services.runtime.tls import ClientTls

_EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
_TTL = "Nats-TTL"

_ANSWER = 2.0  # seconds that the server has for an answer, before it is asked again
_PAUSE = 0.1
_COUNT_EVERY = 1.0  # seconds for which a writer believes what it knows of how full the log is


T = TypeVar("T")


class JetStreamLog:
    """A `CompactedLog` on the JetStream of `url`, called `log`. To be made in a running event loop.

    `name` says to the server who this is. `replicas` is on how many servers each record is kept. What was acknowledged
    survives a crash of the server's process; a power failure, if its `sync_interval` is `always` or, with replicas, if
    not most of them fail at once. `marker_age` is in whole seconds. `tls` is as in `Connection`.
    """

    def __init__(
        self,
        url: str,
        log: str,
        *,
        name: str,
        replicas: int = 1,
        rng: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        limits: Limits | None = None,
        marker_age: float = MARKER_AGE,
        tls: ClientTls | None = None,
    ) -> None:
        self._log, self._stream = log, compacted_stream(log)
        self._marker_age, self._clock = marker_age, clock
        self._rng = rng or Random()
        self._limits = limits or Limits()
        self._connection = Connection(url, name=name, rng=self._rng, tls=tls)
        self._reader = LogReader(log, replicated=replicas > 1)
        self._streams = Streams(replicas=replicas, limits=self._limits, ack_wait=ACK_WAIT)
        self._publisher = Publisher(self._connection, self._streams)
        self._records, self._bytes, self._counted = 0, 0, float("-inf")

    async def put(self, key: str, value: bytes, *, after: int) -> int:
        """See `CompactedLog.put`."""
        check_put(key, value, after)
        async with self._in_time():
            await self._make_sure_of_room(new=after == 0)
            sequence = await self._write(key, value, {_EXPECTED_SEQUENCE: str(after)}, after)
        self._records += after == 0
        self._bytes += len(value)
        return sequence

    async def clear(self, key: str, *, after: int, note: bytes = b"") -> int:
        """See `CompactedLog.clear`."""
        check_put(key, note, after)
        headers = {_EXPECTED_SEQUENCE: str(after), CLEARED: "1", _TTL: f"{self._marker_age:.0f}s"}
        async with self._in_time():
            if after == 0:
                await self._make_sure_of_room(new=True)
            sequence = await self._write(key, note, headers, after)
        self._records += after == 0
        return sequence

    async def latest(self, key: str) -> Record | None:
        """See `CompactedLog.latest`."""
        check_key(key)
        async with self._in_time():
            found = await self._find(key)
        return found.record if found is not None else None

    async def is_empty(self) -> bool:
        """See `CompactedLog.is_empty`."""
        async with self._in_time():
            return not await held(self._connection, self._stream)

    def follow(self) -> JetStreamFollower:
        """See `CompactedLog.follow`."""
        return JetStreamFollower(
            self._connection,
            self._streams,
            self._reader,
            self._log,
            marker_age=self._marker_age,
            clock=self._clock,
        )

    async def close(self) -> None:
        """See `CompactedLog.close`. Takes less than 2 s, also when the server is gone."""
        await self._connection.close()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        if self._connection.closed:
            raise BusUnavailable("the log is closed")
        try:
            async with asyncio.timeout(TIMEOUT):
                yield
        except TimeoutError:
            raise BusUnavailable(f"{stream_name(self._stream)} did not answer within {TIMEOUT:.0f} s") from None

    async def _write(self, key: str, value: bytes, headers: Mapping[str, str], after: int) -> int:
        id = f"{self._rng.getrandbits(128):032x}"
        while True:
            try:
                return await self._publisher.publish(
                    self._stream, compacted_subject(self._log, key), value, id, headers
                )
            except WrongSequence:
                found = await self._find(key)
            if found is not None and found.id == id:  # it was kept, and its acknowledgement lost
                return found.sequence
            if (found.sequence if found else 0) != after:
                raise Superseded(key, found.record if found else None)
            await asyncio.sleep(_PAUSE)  # another's is being written, and may yet fail

    async def _find(self, key: str) -> Found | None:
        return await self._insist(lambda link: self._reader.latest(link, key))

    async def _make_sure_of_room(self, *, new: bool) -> None:
        """Raises `BusFull`. The server is asked once a second, and before any refusal: others write too."""
        if self._clock() - self._counted > _COUNT_EVERY or self._full(new=new):
            await self._count()
            if self._full(new=new):
                raise BusFull(f"{stream_name(self._stream)} holds {self._records:,} records, {self._bytes:,} bytes")

    def _full(self, *, new: bool) -> bool:
        return (new and self._records >= self._limits.records) or self._bytes >= self._limits.record_bytes

    async def _count(self) -> None:
        counted = self._clock()
        now = await self._insist(self._reader.condition)
        self._records, self._bytes, self._counted = now.messages, now.bytes, counted

    async def _insist(self, ask: Callable[[Link], Awaitable[T]]) -> T:
        """What the server answers, asked again for ever while there is trouble."""
        while True:
            link = await self._connection.link()
            try:
                await self._streams.ensure(link, self._stream)
                async with link.wait(_ANSWER):
                    return await ask(link)
            except TROUBLE:
                self._streams.missing(self._stream)
                await asyncio.sleep(_PAUSE)
