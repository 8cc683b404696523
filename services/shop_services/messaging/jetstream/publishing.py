"""Publishing: done when JetStream says that it has the message on disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import nats.errors

from shop_services.messaging.bus import BusFull, BusUnavailable
from shop_services.messaging.jetstream.connection import Connection
from shop_services.messaging.jetstream.streams import Streams, stream_name

TIMEOUT = 5.0
"""Seconds after which `publish` gives up."""

_ONE_TRY = 2.0  # seconds; a message whose acknowledgement was lost is sent again, and kept once by its id
_PAUSE = 0.1

_FULL = 10077  # JSStreamStoreFailedF: "maximum messages exceeded", "maximum bytes exceeded"
_NO_SPACE = (10023, 10047)  # the server's or the account's own limit, or its disk
_WRONG_SEQUENCE = (10071, 10164)  # the second while another message of the subject is being written

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"


class WrongSequence(Exception):
    """The last message of the subject is not the one that the headers expect."""


class Publisher:
    """Publishes into streams, and makes them where they are missing."""

    def __init__(self, connection: Connection, streams: Streams) -> None:
        self._connection = connection
        self._streams = streams

    async def publish(
        self, stream: str, subject: str, data: bytes, message_id: str, headers: Mapping[str, str] | None = None
    ) -> int:
        """Return the message's sequence when it is on disk. Twice the same `message_id` within the window is kept once.

        Raises:
            BusFull: the stream holds as much as it may.
            BusUnavailable: there was no acknowledgement within 5 s.
            WrongSequence: `headers` expect another message to be the last.
        """
        headers = {**(headers or {}), MESSAGE_ID: message_id, EXPECTED_STREAM: stream_name(stream)}
        if self._connection.closed:
            raise BusUnavailable("the bus is closed")
        reason = "no answer"
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    try:
                        if (sequence := await self._try(stream, subject, data, headers)) is not None:
                            return sequence
                    except (TimeoutError, nats.errors.Error) as error:
                        reason = str(error) or reason
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise BusUnavailable(f"not acknowledged within {TIMEOUT:.0f} s: {reason}") from None

    async def _try(self, stream: str, subject: str, data: bytes, headers: Mapping[str, str]) -> int | None:
        try:
            answer = await self._connection.request(subject, data, headers=headers, timeout=_ONE_TRY)
        except nats.errors.NoRespondersError:
            self._streams.missing(stream)
            await self._streams.ensure(await self._connection.link(), stream)
            return None
        told = json.loads(answer.data)
        if (error := told.get("error")) is None:
            return int(told["seq"])
        code, description = error.get("err_code"), error.get("description", "")
        if (code == _FULL and description.startswith("maximum")) or code in _NO_SPACE:
            raise BusFull(f"{stream_name(stream)}: {description}")
        if code in _WRONG_SEQUENCE:
            raise WrongSequence(description)
        raise nats.errors.Error(description)
