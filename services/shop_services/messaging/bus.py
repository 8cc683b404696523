"""What a message bus does, whichever it is: `jetstream` in production, `memory` for tests, under one contract suite.

A topic is a queue. A message that was published stays until a handler has returned, or until it was given up and lies
in the dead letters. It arrives at least once, in no order that can be relied on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import Unavailable

TOPICS = ("orders", "payments", "inventory", "notifications")
"""All topics there are. Each has handlers of its own, in workers of its own."""


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope and the topic that it goes to."""

    topic: str
    envelope: Envelope


Handler = Callable[[Envelope], Awaitable[None]]
"""Handles a message. When it returns, the message is done: what it did must be committed by then.

It may be called again with the same message, also at the same time in another process: keep an inbox. If it raises
`Reject` the message goes to the dead letters at once, after anything else it is tried again as the `RetryPolicy` says.
"""


class Reject(Exception):
    """This message can never be handled; the reason goes to the dead letters with it."""


class BusUnavailable(Unavailable):
    """The bus is away, or did not say in time that it keeps the message. It may have kept it."""

    default_reason = "BUS_UNAVAILABLE"


class BusFull(Unavailable):
    """The topic holds as many messages as it may. Nothing was kept; try later."""

    default_reason = "BUS_FULL"


class Subscription(Protocol):
    """Handlers at work. Obtained from `Bus.subscribe`, whose block keeps it alive."""

    async def drain(self, grace: float) -> None:
        """Take no more messages, and let the handlers at work finish for `grace` seconds at most.

        What has not finished by then is cancelled, and given to another worker at once. Idempotent; leaving the block
        of `subscribe` does it too, with a short grace.
        """


class Bus(Protocol):
    """A connection to the bus. Making one never fails because the bus is away: it connects by itself, for ever."""

    async def publish(self, message: Message) -> None:
        """Return when the bus has the message on disk. Twice the same envelope id within two minutes is kept once.

        Raises:
            BusFull: the topic is full.
            BusUnavailable: the bus did not answer within 5 s.
        """

    def subscribe(
        self, topic: str, handler: Handler, *, concurrency: int, retries: RetryPolicy
    ) -> AbstractAsyncContextManager[Subscription]:
        """Inside of the block, call `handler` for messages of `topic`, at most `concurrency` at a time.

        No more messages are fetched than handlers can begin with. A handler that takes long keeps its message, for two
        minutes at most: then it is cancelled, and has failed. One whose process died has it given to another within
        seconds.
        """

    async def held(self, topic: str) -> int:
        """How many messages of `topic` are not done: they wait for a handler or another attempt, or are being handled.

        Raises:
            BusUnavailable: the bus did not answer within 5 s.
        """

    def announce(self, channel: str, subject: str) -> None:
        """Tell all who `listen` to `channel` now, in any process, that `subject` has changed. Nothing is kept, and it
        may be lost: whoever must know looks for itself from time to time. Never waits, never raises."""

    def listen(self, channel: str, heard: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Inside of the block, call `heard(subject)` for what is announced on `channel`. `heard` must be quick."""

    async def close(self) -> None:
        """Close the connection. Idempotent."""
