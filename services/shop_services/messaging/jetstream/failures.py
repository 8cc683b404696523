"""Why attempts at a message failed: kept by the server, since each may be made by another worker."""

from __future__ import annotations

import structlog

from shop.events.v1.events_pb2 import DeadLetter, Envelope, FailedAttempt
from shop_services.messaging.bus import BusFull, BusUnavailable
from shop_services.messaging.jetstream.connection import Connection
from shop_services.messaging.jetstream.publishing import Publisher
from shop_services.messaging.jetstream.reading import read
from shop_services.messaging.jetstream.streams import (
    DEAD_LETTERS,
    FAILURES,
    dead_letter_subject,
    failures_subject,
)
from shop_services.runtime.times import Clock, to_timestamp

_log = structlog.get_logger(__name__)


class Failures:
    """Records failed attempts, and makes dead letters of them. A message is known by its topic and its number there."""

    def __init__(self, connection: Connection, publisher: Publisher, *, worker: str, clock: Clock) -> None:
        self._connection = connection
        self._publisher = publisher
        self._worker = worker
        self._clock = clock

    async def record(self, topic: str, number: int, attempt: int, reason: str) -> None:
        """Keep why an attempt failed. Never raises: a message is not held up by its history."""
        failed = self._failed(attempt, reason)
        try:
            await self._publisher.publish(
                FAILURES, failures_subject(topic, number), failed.SerializeToString(), f"{topic}-{number}-{attempt}"
            )
        except (BusFull, BusUnavailable) as error:
            _log.warning("a failed attempt could not be recorded", topic=topic, number=number, reason=str(error))

    async def history(self, topic: str, number: int) -> list[FailedAttempt]:
        """The recorded attempts, oldest first; those that the server still has. Raises `BusUnavailable`."""
        kept = read(self._connection, FAILURES, failures_subject(topic, number))
        return [FailedAttempt.FromString(each.data or b"") async for each in kept]

    async def bury(self, topic: str, number: int, attempt: int, reason: str, message: Envelope | bytes) -> None:
        """Put the message among the dead letters, with its history; `reason` is that of its last `attempt`.

        Raises:
            BusFull, BusUnavailable: it is not there, so the message must be kept.
        """
        earlier = [failed for failed in await self.history(topic, number) if failed.attempt < attempt]
        letter = DeadLetter(
            id=f"{topic}-{number}",
            topic=topic,
            reason=reason,
            time=to_timestamp(self._clock()),
            history=[*earlier, self._failed(attempt, reason)],
        )
        if isinstance(message, Envelope):
            letter.envelope.CopyFrom(message)
        else:
            letter.raw = message
        await self._publisher.publish(
            DEAD_LETTERS,
            dead_letter_subject(topic, number),
            letter.SerializeToString(),
            f"dead-{letter.id}-{letter.envelope.id}",
        )

    def _failed(self, attempt: int, reason: str) -> FailedAttempt:
        time = to_timestamp(self._clock())
        return FailedAttempt(attempt=attempt, time=time, reason=reason, worker=self._worker)
