"""The bus on NATS JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

from nats.aio.msg import Msg

from shop_services.messaging.bus import Handler, Message
from shop_services.messaging.jetstream.connection import Connection, Link
from shop_services.messaging.jetstream.failures import Failures
from shop_services.messaging.jetstream.publishing import Publisher
from shop_services.messaging.jetstream.pulling import TROUBLE
from shop_services.messaging.jetstream.reading import held
from shop_services.messaging.jetstream.streams import ACK_WAIT, Limits, Streams, topic_subject
from shop_services.messaging.jetstream.subscription import JetStreamSubscription
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.times import Clock, utc_now
from shop_services.runtime.tls import ClientTls

_ANNOUNCED = 1_000  # announcements that wait to be sent; more are dropped, as they may be
_GRACE = 1.0
_PAUSE = 0.5


class JetStreamBus:
    """A `Bus` on the JetStream of `url` (`nats://a:4222,b:4222`). To be made in a running event loop.

    `name` says in dead letters and to the server who this is. `replicas` is on how many servers each message is kept.
    `tls` is as in `Connection`.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        replicas: int = 1,
        rng: Random | None = None,
        clock: Clock = utc_now,
        limits: Limits | None = None,
        ack_wait: float = ACK_WAIT,
        tls: ClientTls | None = None,
    ) -> None:
        self._rng = rng or Random()
        self._ack_wait = ack_wait
        self._connection = Connection(url, name=name, rng=self._rng, tls=tls)
        self._streams = Streams(replicas=replicas, limits=limits or Limits(), ack_wait=ack_wait)
        self._publisher = Publisher(self._connection, self._streams)
        self._failures = Failures(self._connection, self._publisher, worker=name, clock=clock)
        self._announced: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_ANNOUNCED)
        self._announcer = asyncio.create_task(self._announce(), name="announcer")

    async def publish(self, message: Message) -> None:
        """See `Bus.publish`."""
        envelope = message.envelope
        subject = topic_subject(message.topic)
        await self._publisher.publish(message.topic, subject, envelope.SerializeToString(), envelope.id)

    @asynccontextmanager
    async def subscribe(
        self, topic: str, handler: Handler, *, concurrency: int, retries: RetryPolicy
    ) -> AsyncIterator[JetStreamSubscription]:
        """See `Bus.subscribe`."""
        subscription = JetStreamSubscription(
            self._connection,
            self._streams,
            self._failures,
            topic=topic,
            handler=handler,
            concurrency=concurrency,
            retries=retries,
            rng=self._rng,
            ack_wait=self._ack_wait,
        )
        try:
            yield subscription
        finally:
            await subscription.drain(_GRACE)

    async def held(self, topic: str) -> int:
        """See `Bus.held`."""
        return await held(self._connection, topic)

    def announce(self, channel: str, subject: str) -> None:
        """See `Bus.announce`."""
        with suppress(asyncio.QueueFull):
            self._announced.put_nowait((channel, subject))

    @asynccontextmanager
    async def listen(self, channel: str, heard: Callable[[str], None]) -> AsyncIterator[None]:
        """See `Bus.listen`."""
        listening = asyncio.Event()
        listener = asyncio.create_task(self._listen(channel, heard, listening), name=f"listener of {channel}")
        try:
            if self._connection.current is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE):
                        await listening.wait()
            yield
        finally:
            listener.cancel()
            await asyncio.wait([listener])

    async def close(self) -> None:
        """See `Bus.close`. Takes less than 2 s, also when the server is gone."""
        self._announcer.cancel()
        await asyncio.wait([self._announcer])
        await self._connection.close()

    async def _announce(self) -> None:
        while True:
            channel, subject = await self._announced.get()
            if (link := self._connection.current) is not None:
                with suppress(Exception):  # it may be lost
                    async with link.wait(_PAUSE):
                        await link.client.publish(_channel(channel), subject.encode())

    async def _listen(self, channel: str, heard: Callable[[str], None], listening: asyncio.Event) -> None:
        async def on_message(message: Msg) -> None:
            heard(message.data.decode(errors="replace"))

        while True:
            link: Link = await self._connection.link()
            with suppress(*TROUBLE):
                subscribed = await link.client.subscribe(_channel(channel), cb=on_message)
                try:
                    async with link.wait(5.0):
                        await link.client.flush()
                    listening.set()
                    await link.lost.wait()
                finally:
                    with suppress(Exception):
                        await subscribed.unsubscribe()
            await asyncio.sleep(_PAUSE if not link.lost.is_set() else 0)


def _channel(channel: str) -> str:
    return f"shop.changed.{channel}"
