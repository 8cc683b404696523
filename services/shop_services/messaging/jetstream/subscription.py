"""Handlers at work on a topic: each takes a message, handles it, and says what became of it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from random import Random
from typing import assert_never

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.attempts import Again, Done, GivenUp, attempt
from shop_services.messaging.bus import BusFull, BusUnavailable, Handler
from shop_services.messaging.jetstream.connection import Connection
from shop_services.messaging.jetstream.failures import Failures
from shop_services.messaging.jetstream.pulling import TROUBLE, Pull
from shop_services.messaging.jetstream.streams import Streams
from shop_services.messaging.retry import RetryPolicy

_log = structlog.get_logger(__name__)

WORKER_DIED = "its worker died, or lost its connection for long"

_PAUSE = 0.5  # seconds after trouble with the server
_CANCEL = 2.0  # seconds that a cancelled handler may take to end


class JetStreamSubscription:
    """`concurrency` loops of one message each, and one that tells the server that they are still at it."""

    def __init__(
        self,
        connection: Connection,
        streams: Streams,
        failures: Failures,
        *,
        topic: str,
        handler: Handler,
        concurrency: int,
        retries: RetryPolicy,
        rng: Random,
        ack_wait: float,
    ) -> None:
        self._connection, self._failures = connection, failures
        self._topic, self._handler, self._retries, self._rng = topic, handler, retries, rng
        self._draining = False
        self._troubled = False
        self._held: set[str] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._pulls = [Pull(connection, streams, topic) for _ in range(concurrency)]
        self._loops = [asyncio.create_task(self._serve(pull), name=f"{topic} handler") for pull in self._pulls]
        self._heartbeat = asyncio.create_task(self._beat(ack_wait / 3), name=f"{topic} heartbeat")

    async def drain(self, grace: float) -> None:
        """See `Subscription.drain`."""
        self._draining = True
        for loop in self._loops:
            if loop not in self._busy:
                loop.cancel()
        await asyncio.gather(*(pull.stop() for pull in self._pulls))
        _, late = await asyncio.wait(self._loops, timeout=grace)
        for loop in late:
            loop.cancel()
        _, stuck = await asyncio.wait(self._loops, timeout=_CANCEL)
        if stuck:
            _log.error("handlers ignore that they were cancelled", topic=self._topic, handlers=len(stuck))
        self._heartbeat.cancel()
        await asyncio.wait([self._heartbeat])

    async def _serve(self, pull: Pull) -> None:
        this = asyncio.current_task()
        assert this is not None  # noqa: S101 - for the type checker: a task is running
        while not self._draining:
            try:
                message = await pull.next()
            except Exception as error:  # whatever it is, taking messages goes on
                self._complain(error)
                await asyncio.sleep(_PAUSE)
                continue
            self._troubled = False
            self._busy.add(this)
            self._held.add(message.reply)
            try:
                answer = await self._handle(message)
                await self._connection.send(message.reply, answer)
            except asyncio.CancelledError:
                with suppress(asyncio.CancelledError):
                    await pull.hand_back(message)
                raise
            except Exception:
                _log.exception("a message could not be settled", topic=self._topic)  # it comes again after ack_wait
            finally:
                self._held.discard(message.reply)
                self._busy.discard(this)

    def _complain(self, error: Exception) -> None:
        """Say it once until there is a message again; that the server is away is said by the connection."""
        expected = isinstance(error, TROUBLE)
        if (self._connection.current is not None or not expected) and not self._troubled:
            self._troubled = True
            reason = f"{type(error).__name__}: {error}"
            _log.warning("no messages come", topic=self._topic, reason=reason, exc_info=None if expected else error)

    async def _handle(self, message: Msg) -> bytes:
        """Handle it, and return what to answer the server."""
        delivered = message.metadata
        number, tries = delivered.sequence.stream, delivered.num_delivered
        try:
            envelope = Envelope.FromString(message.data)
        except DecodeError as error:
            return await self._bury(number, tries, f"not an envelope: {error}", message.data)
        if tries > self._retries.attempts:
            return await self._bury(number, tries, await self._last_words(number), envelope)
        outcome = await attempt(self._handler, envelope, tries, self._retries, self._rng)
        match outcome:
            case Done():
                return b"+ACK"
            case Again(reason, delay):
                await self._failures.record(self._topic, number, tries, reason)
                return _later(delay)
            case GivenUp(reason):
                return await self._bury(number, tries, reason, envelope)
            case _:
                assert_never(outcome)

    async def _last_words(self, number: int) -> str:
        """Why the last attempt failed, of which no dead letter was made: there was no room, or its worker died."""
        try:
            history = await self._failures.history(self._topic, number)
        except BusUnavailable:
            history = []
        told = bool(history) and history[-1].attempt >= self._retries.attempts
        return history[-1].reason if told else WORKER_DIED

    async def _bury(self, number: int, tries: int, reason: str, message: Envelope | bytes) -> bytes:
        try:
            await self._failures.bury(self._topic, number, tries, reason, message)
        except (BusFull, BusUnavailable) as error:
            _log.error("a dead letter cannot be kept; its message is", topic=self._topic, reason=str(error))
            await self._failures.record(self._topic, number, tries, reason)
            return _later(self._retries.longest)
        return b"+ACK"

    async def _beat(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            if (link := self._connection.current) is None:
                continue
            with suppress(Exception):  # the next connection has the next beat
                for reply in tuple(self._held):
                    await link.client.publish(reply, b"+WPI")


def _later(delay: float) -> bytes:
    return b"-NAK " + json.dumps({"delay": int(delay * 1e9)}).encode()
