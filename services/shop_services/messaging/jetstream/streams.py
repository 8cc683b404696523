"""The streams and consumers that the bus needs, made at first use and again whenever a server lost them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote, unquote

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError

from shop_services.messaging.jetstream.connection import Link

DUPLICATE_WINDOW = 120.0
"""Seconds in which the same message id is kept once: JetStream's own default."""

ACK_WAIT = 10.0
"""Seconds without a sign of life after which a message is given to another worker. A handler at work gives three."""

IN_FLIGHT = 20_000
"""Messages of a topic that are at workers or wait for their next attempt; beyond that no new ones are begun. Attempts
that are due come first in any case; so many may wait for long, as e-mails do, before they hold up what is new."""

_NAME_IN_USE = 10058  # JSStreamNameExistErr: it is there, with other settings
DEAD_LETTERS = "dead-letters"
FAILURES = "failures"
_COMPACTED = "compacted-"

COMPACTED_DUPLICATES = 10.0
"""Seconds, likewise, of a compacted log: a put is tried for 5 s, and the server keeps each id in its memory so long."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the streams hold. What a topic cannot take is refused, so that whoever publishes slows down.

    The server sets the bytes aside when it makes a stream: with four topics and a compacted log it needs room for
    896 MiB. Ages are in seconds. `records` and `record_bytes` are of a compacted log: it takes no more
    beyond them.
    """

    messages: int = 100_000
    bytes: int = 128 * MIB
    dead_letters: int = 10_000
    dead_letter_bytes: int = 64 * MIB
    failure_bytes: int = 64 * MIB
    failure_age: float = 7 * 24 * 3600.0
    records: int = 100_000
    record_bytes: int = 128 * MIB


def stream_name(stream: str) -> str:
    return f"SHOP-{stream}"


def topic_subject(topic: str) -> str:
    return f"shop.{topic}"


def dead_letter_subject(topic: str, number: int | str) -> str:
    return f"shop.dead.{topic}.{number}"


def failures_subject(topic: str, number: int) -> str:
    return f"shop.failures.{topic}.{number}"


def compacted_stream(log: str) -> str:
    return f"{_COMPACTED}{log}"


def compacted_subject(log: str, key: str) -> str:
    """A subject for any key: what NATS or a URL would not take in a token becomes %XX."""
    return f"shop.compacted.{log}.{quote(key, safe='').replace('.', '%2E')}"


def compacted_key(subject: str) -> str:
    return unquote(subject.rpartition(".")[2])


def beacon_subject(log: str) -> str:
    """A subject of the log that no key has."""
    return f"shop.compacted.{log}.%"


class Streams:
    """Sees to it that a stream is there, once a connection, or again after `missing`."""

    def __init__(self, *, replicas: int, limits: Limits, ack_wait: float) -> None:
        self._replicas = replicas
        self._limits = limits
        self._ack_wait = ack_wait
        self._there: set[str] = set()
        self._link: Link | None = None
        self._lock = asyncio.Lock()

    def missing(self, stream: str) -> None:
        """The server did not know it: make it again the next time."""
        self._there.discard(stream)

    async def ensure(self, link: Link, stream: str) -> None:
        """Make or update the stream (a topic's with its consumer) if that was not done through `link` before.

        Raises:
            TimeoutError: the server does not answer, or is being elected.
            nats.errors.Error: it refused.
        """
        async with self._lock:
            if link is not self._link:
                self._link = link
                self._there.clear()
            if stream in self._there:
                return
            async with link.wait(5.0):
                await self._make(link, stream)
            self._there.add(stream)

    async def _make(self, link: Link, stream: str) -> None:
        config = self._config(stream)
        try:
            await link.jetstream.add_stream(config)
        except BadRequestError as error:
            if error.err_code != _NAME_IN_USE:
                raise
            await link.jetstream.update_stream(config)
        if config.retention is RetentionPolicy.WORK_QUEUE:
            await link.jetstream.add_consumer(config.name or "", self._consumer(stream))

    def _config(self, stream: str) -> StreamConfig:
        config = StreamConfig(
            name=stream_name(stream),
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            discard=DiscardPolicy.NEW,
            duplicate_window=DUPLICATE_WINDOW,
        )
        if stream == DEAD_LETTERS:
            return config.evolve(
                description="Messages that were given up: see shop dlq",
                subjects=[dead_letter_subject("*", "*")],
                max_msgs=self._limits.dead_letters,
                max_bytes=self._limits.dead_letter_bytes,
                max_msgs_per_subject=1,
            )
        if stream == FAILURES:
            return config.evolve(
                description="Why attempts at messages failed, until they are handled or given up",
                subjects=["shop.failures.>"],
                max_bytes=self._limits.failure_bytes,
                max_msgs_per_subject=100,
                max_age=self._limits.failure_age,
                discard=DiscardPolicy.OLD,  # history, not work
            )
        if stream.startswith(_COMPACTED):
            return config.evolve(
                description="The latest record of each key",
                subjects=[f"shop.compacted.{stream.removeprefix(_COMPACTED)}.*"],
                # Writers stop at half of it: at these limits a clustered stream refuses even to have records cleared.
                max_msgs=2 * self._limits.records,
                max_bytes=2 * self._limits.record_bytes,
                max_msgs_per_subject=1,
                allow_direct=True,
                allow_msg_ttl=True,
                duplicate_window=COMPACTED_DUPLICATES,
            )
        return config.evolve(
            description=f"The topic {stream}",
            subjects=[topic_subject(stream)],
            retention=RetentionPolicy.WORK_QUEUE,
            max_msgs=self._limits.messages,
            max_bytes=self._limits.bytes,
        )

    def _consumer(self, topic: str) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=topic,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait,
            max_deliver=-1,  # attempts are counted by workers, which know the policy and keep the reason
            max_ack_pending=IN_FLIGHT,
        )
