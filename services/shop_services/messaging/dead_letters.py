"""Messages that were given up: looked at, tried again, or dropped, by whoever runs the shop."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import nats.errors
from nats.js.errors import NotFoundError, ServerError

from shop.events.v1.events_pb2 import DeadLetter
from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.jetstream.connection import Connection, Link
from shop_services.messaging.jetstream.publishing import Publisher
from shop_services.messaging.jetstream.reading import read
from shop_services.messaging.jetstream.streams import (
    ACK_WAIT,
    DEAD_LETTERS,
    Limits,
    Streams,
    dead_letter_subject,
    stream_name,
    topic_subject,
)
from shop_services.runtime.errors import NotFound
from shop_services.runtime.tls import ClientTls

_STREAM = stream_name(DEAD_LETTERS)
_ID = re.compile(r"([a-z]+)-([0-9]+)")
_GONE = (10057, "no message found")  # JSStreamMsgDeleteFailedF, which has other causes too
_PATIENCE = 5.0  # seconds for a connection, and for an answer


@dataclass(frozen=True, slots=True)
class _Kept:
    """A letter, and where it lies."""

    sequence: int
    letter: DeadLetter


class DeadLetters:
    """The dead letters of a shop. All methods raise `BusUnavailable` if NATS does not answer within seconds."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher

    async def all(self, topic: str | None = None) -> list[DeadLetter]:
        """All letters of the topic, or of all topics, oldest first."""
        return [kept.letter for kept in await self._all(topic)]

    async def show(self, letter_id: str) -> DeadLetter:
        """The letter of that id. Raises `NotFound`."""
        return (await self._find(letter_id)).letter

    async def retry(self, letter_id: str) -> None:
        """Give the message to its topic again, as the same message to handlers, and then remove the letter.

        Should this be interrupted in between, the letter is still there; to do it again within two minutes repeats
        nothing.

        Raises:
            NotFound: there is no such letter.
            BusFull: the topic is full.
        """
        await self._retry(await self._find(letter_id))

    async def drop(self, letter_id: str) -> None:
        """Remove the letter for good. Raises `NotFound`."""
        await self._remove(await self._find(letter_id))

    async def retry_all(self, topic: str | None = None) -> int:
        """`retry` what is there now, oldest first, and return how many there were."""
        found = await self._all(topic)
        for kept in found:
            await self._retry(kept)
        return len(found)

    async def drop_all(self, topic: str | None = None) -> int:
        """`drop` what is there now, and return how many there were."""
        found = await self._all(topic)
        for kept in found:
            await self._remove(kept)
        return len(found)

    async def _retry(self, kept: _Kept) -> None:
        letter = kept.letter
        data = letter.raw or letter.envelope.SerializeToString()
        # An id of its own: under the envelope's it would be taken for a duplicate of what was given up.
        message_id = f"retry-{letter.id}-{kept.sequence}"
        await self._publisher.publish(letter.topic, topic_subject(letter.topic), data, message_id)
        await self._remove(kept)

    async def _remove(self, kept: _Kept) -> None:
        async with self._answering() as link:
            try:
                await link.jetstream.delete_msg(_STREAM, kept.sequence)
            except ServerError as error:
                if (error.err_code, error.description) != _GONE:
                    raise
                # Another was quicker.

    async def _find(self, letter_id: str) -> _Kept:
        parsed = _ID.fullmatch(letter_id)
        if parsed is None:
            raise NotFound("dead letter", letter_id)
        async with self._answering() as link:
            try:
                found = await link.jetstream.get_last_msg(_STREAM, dead_letter_subject(*parsed.groups()))
            except NotFoundError:
                raise NotFound("dead letter", letter_id) from None
        return _Kept(found.seq or 0, DeadLetter.FromString(found.data or b""))

    async def _all(self, topic: str | None) -> list[_Kept]:
        kept = read(self._connection, DEAD_LETTERS, dead_letter_subject(topic or "*", "*"))
        return [_Kept(found.seq or 0, DeadLetter.FromString(found.data or b"")) async for found in kept]

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[Link]:
        """A connection, for a block that must end within seconds."""
        try:
            link = await self._connection.link(_PATIENCE)
            async with link.wait(_PATIENCE):
                yield link
        except (TimeoutError, nats.errors.Error) as error:
            raise BusUnavailable(f"the dead letters cannot be reached: {str(error) or 'no answer'}") from error


@asynccontextmanager
async def open_dead_letters(url: str, *, replicas: int = 1, tls: ClientTls | None = None) -> AsyncIterator[DeadLetters]:
    """The dead letters that lie at the NATS server of `url`, through a connection for the time of the block."""
    connection = Connection(url, name="dead letters", rng=Random(), tls=tls)
    streams = Streams(replicas=replicas, limits=Limits(), ack_wait=ACK_WAIT)
    try:
        yield DeadLetters(connection, Publisher(connection, streams))
    finally:
        await connection.close()
