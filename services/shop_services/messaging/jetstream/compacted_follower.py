"""Following a compacted log on JetStream: asking again and again for what comes after the last that was read.

No consumer is used: there is nothing to keep alive, to lose, or to find again after a server was away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from math import inf

import structlog

from shop_services.messaging.compacted import ABSENCE, LOOK_EVERY, News, StartOver
from shop_services.messaging.jetstream.compacted_reading import LogReader
from shop_services.messaging.jetstream.connection import Connection, Link
from shop_services.messaging.jetstream.reading import Condition
from shop_services.messaging.jetstream.streams import Streams, compacted_stream

_log = structlog.get_logger(__name__)

_LOOK = 3.0  # seconds that a look may take
_PAUSE = 0.5  # seconds after trouble with the server


class JetStreamFollower:
    """A `Follower` on JetStream."""

    def __init__(
        self,
        connection: Connection,
        streams: Streams,
        reader: LogReader,
        log: str,
        *,
        marker_age: float,
        clock: Callable[[], float],
    ) -> None:
        self._connection, self._streams, self._reader, self._clock = connection, streams, reader, clock
        self._log = log
        self._absence = ABSENCE * marker_age
        self._created = ""
        self._sound: datetime | None = None  # the server's time when there was no doubt last
        self._read = 0
        self._as_of = -inf
        self._more = True
        self._troubled = False

    async def read(self) -> News:
        """See `Follower.read`."""
        stream = compacted_stream(self._log)
        while True:
            if not self._more:
                await asyncio.sleep(LOOK_EVERY)
            link = await self._connection.link()
            try:
                await self._streams.ensure(link, stream)
                async with link.wait(_LOOK):
                    news = await self._look(link)
            except StartOver:
                raise
            except Exception as error:  # whatever it is, it must not end the only reader of the log
                self._complain(error)
                self._streams.missing(stream)
                await asyncio.sleep(_PAUSE if not link.lost.is_set() else 0)
            else:
                self._troubled = False
                return news

    async def _look(self, link: Link) -> News:
        if self._sound is None:
            now = await self._reader.condition(link)
            self._created, self._sound = now.created, now.time
        as_of = self._clock()
        batch, beacon = await self._reader.since(link, self._read)
        # Asked for last: all of the above was of one log if it is still the same, and open.
        now = await self._reader.condition(link)
        self._check(now, beacon or now.last)
        self._read, self._more = max(batch.last, self._read), batch.more
        if not batch.more:
            self._as_of, self._sound = as_of, now.time
        return News(tuple(found.record for found in batch.messages if found.record is not None), self._as_of)

    def _check(self, now: Condition, last: int) -> None:
        """Whether what was read goes on where it ended. Raises `StartOver`."""
        lost = now.created != self._created or last < self._read
        absent = (now.time - self._sound).total_seconds() if self._sound else 0.0
        if lost or absent > self._absence:
            self._sound, self._read, self._as_of, self._more = None, 0, -inf, True
            reason = "was wiped" if lost else f"was not read for {absent:.0f} s"
            raise StartOver(f"the log {self._log} {reason}", lost=lost)

    def _complain(self, error: Exception) -> None:
        """Say it once until it works again; that the server is away is said by the connection."""
        if self._connection.current is not None and not self._troubled:
            self._troubled = True
            _log.warning("a log cannot be followed", log=self._log, reason=f"{type(error).__name__}: {error}")
