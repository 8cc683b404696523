"""Pulling messages one by one, so that a worker never holds one that it cannot begin with.

The client's own `fetch` is not used: a message that comes while it is being cancelled is lost until `ack_wait` is over,
and a server that has lost the request leaves it waiting for all of its time.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Inbox

from shop_services.messaging.jetstream.connection import Connection, Link
from shop_services.messaging.jetstream.streams import Streams, stream_name

EXPIRES = 60.0
"""Seconds after which the server forgets a request for a message."""

IDLE_HEARTBEAT = 1.0
"""Seconds between the server's signs that it still knows the request; without two of them it is made again."""

_HAND_BACK = 0.5
"""Seconds that handing a message back waits for a connection: without one it comes again after `ack_wait`."""

_REQUEST = json.dumps(
    {"batch": 1, "expires": int(EXPIRES * 1e9), "idle_heartbeat": int(IDLE_HEARTBEAT * 1e9)}, separators=(",", ":")
).encode()

_HEARTBEAT = "100"
_EXPIRED = ("404", "408")


class Pull:
    """Asks for one message after another through one inbox."""

    def __init__(self, connection: Connection, streams: Streams, topic: str) -> None:
        self._connection = connection
        self._streams = streams
        self._topic = topic
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream_name(topic)}.{topic}"
        self._link: Link | None = None
        self._inbox: Inbox | None = None
        self._asked = False
        self._refused: str | None = None
        self._stopped = False
        self._came: deque[Msg] = deque()
        self._stir = asyncio.Event()

    async def next(self) -> Msg:
        """The next message, waiting for it and for a server for ever.

        Raises:
            TimeoutError, nats.errors.Error, ConnectionError: it did not work; try again after a pause.
        """
        while not self._came:
            if self._stopped:
                raise asyncio.CancelledError  # it was, and the client took that for something else
            link = await self._connection.link()
            await self._streams.ensure(link, self._topic)
            async with link.wait(None):
                if link is not self._link:
                    self._asked = False
                    self._link, self._inbox = link, await link.client.subscribe(link.client.new_inbox(), cb=self._take)
                await self._wait(link)
        return self._came.popleft()

    async def stop(self) -> None:
        """Take back what was asked for. Messages that came too late to be begun are handed back.

        So are those that come after it: where the server is not heard of in time the inbox lives on with the link.
        """
        self._stopped = True
        self._stir.set()
        if self._link is not None and self._inbox is not None and not self._link.lost.is_set():
            with suppress(Exception):  # a lost connection has nothing to give back
                async with self._link.wait(1.0):
                    await self._inbox.drain()  # type: ignore[no-untyped-call]
        while self._came:  # not before: it might come back to a handler that is just being stopped
            await self.hand_back(self._came.popleft())

    async def hand_back(self, message: Msg) -> None:
        """Let another have `message`, which `next` gave or which came too late, at once."""
        await self._connection.send(message.reply, b"-NAK", patience=_HAND_BACK)

    async def _wait(self, link: Link) -> None:
        assert self._inbox is not None  # noqa: S101 - for the type checker: `next` has made it
        if not self._asked and not self._stopped:
            self._asked = True
            await link.client.publish(self._subject, _REQUEST, reply=self._inbox.subject)
        while self._asked and not self._came and not self._stopped:
            self._stir.clear()
            try:
                async with asyncio.timeout(2.5 * IDLE_HEARTBEAT):
                    await self._stir.wait()
            except TimeoutError:
                self._asked, self._refused = False, "no heartbeat"
        if self._refused is not None and not self._came:
            reason, self._refused = self._refused, None
            self._streams.missing(self._topic)
            raise ConnectionError(f"the server does not deliver: {reason}")

    async def _take(self, message: Msg) -> None:
        headers = message.headers or {}
        status = None if message.reply.startswith("$JS.ACK.") else headers.get("Status", "no status")
        if status is None and self._stopped:
            await self.hand_back(message)
        elif status is None:
            self._came.append(message)
        elif status not in (_HEARTBEAT, *_EXPIRED):  # the consumer is gone, has a new leader, …
            self._refused = f"{status} {headers.get('Description', '')}".rstrip()
        if status != _HEARTBEAT:
            self._asked = False
        self._stir.set()


TROUBLE = (TimeoutError, nats.errors.Error, ConnectionError)
"""What goes wrong while a server is away or is being set up again."""
