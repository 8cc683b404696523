"""A bus in the memory of one process, for tests and for a shop in one process. What it holds dies with the process."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import assert_never
from weakref import WeakValueDictionary

from shop.events.v1.events_pb2 import DeadLetter, Envelope, FailedAttempt
from shop_services.messaging.attempts import Again, Done, GivenUp, attempt
from shop_services.messaging.bus import BusFull, BusUnavailable, Handler, Message
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.times import Clock, to_timestamp, utc_now

DUPLICATES = timedelta(minutes=2)
"""How long an envelope's id is remembered, as JetStream does by default."""


@dataclass(eq=False, slots=True)
class _Kept:
    """A message on its way: its number in the topic, and what happened to it."""

    number: int
    envelope: Envelope
    attempts: int = 0
    history: list[FailedAttempt] = field(default_factory=list)


class _Topic:
    """What is kept of a topic. `held` counts all messages that are not done, also those at a handler."""

    def __init__(self) -> None:
        self.ready: deque[_Kept] = deque()
        self.published = 0
        self.held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def put(self, kept: _Kept) -> None:
        self.ready.append(kept)
        self._wake()

    async def take(self) -> _Kept:
        while not self.ready:
            woken = asyncio.get_running_loop().create_future()
            self._waiting.append(woken)
            try:
                await woken
            except asyncio.CancelledError:
                if woken.done() and not woken.cancelled():
                    self._wake()  # it was told of a message that another may take now
                raise
        return self.ready.popleft()

    def _wake(self) -> None:
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                return


class MemoryBroker:
    """What the buses of one shop share. `capacity` is how many messages a topic holds."""

    def __init__(self, *, clock: Clock = utc_now, rng: Random | None = None, capacity: int = 100_000) -> None:
        self.dead_letters: list[DeadLetter] = []
        self.rng = rng or Random()
        self._clock = clock
        self._capacity = capacity
        self._topics: defaultdict[str, _Topic] = defaultdict(_Topic)
        self._seen: dict[str, float] = {}
        self._listeners: defaultdict[str, list[Callable[[str], None]]] = defaultdict(list)

    def publish(self, message: Message) -> None:
        now = self._clock().timestamp()
        while self._seen and (oldest := next(iter(self._seen))) and self._seen[oldest] < now:
            del self._seen[oldest]
        if message.envelope.id in self._seen:
            return
        topic = self._topics[message.topic]
        if topic.held >= self._capacity:
            raise BusFull(f"the topic {message.topic} is full")
        self._seen[message.envelope.id] = now + DUPLICATES.total_seconds()
        topic.held += 1
        topic.published += 1
        copy = Envelope()
        copy.CopyFrom(message.envelope)
        topic.put(_Kept(topic.published, copy))

    def topic(self, name: str) -> _Topic:
        return self._topics[name]

    def listeners(self, channel: str) -> list[Callable[[str], None]]:
        return self._listeners[channel]

    def failed(self, kept: _Kept, reason: str, worker: str) -> None:
        time = to_timestamp(self._clock())
        kept.history.append(FailedAttempt(attempt=kept.attempts, time=time, reason=reason, worker=worker))

    def bury(self, topic: str, kept: _Kept, reason: str) -> None:
        time = to_timestamp(self._clock())
        self._topics[topic].held -= 1
        self.dead_letters.append(
            DeadLetter(
                id=f"{topic}-{kept.number}",
                topic=topic,
                reason=reason,
                time=time,
                history=kept.history,
                envelope=kept.envelope,
            )
        )


class _Subscription:
    """`concurrency` loops that take one message each."""

    def __init__(
        self, broker: MemoryBroker, topic: str, handler: Handler, concurrency: int, retries: RetryPolicy, worker: str
    ) -> None:
        self._broker, self._name, self._handler, self._retries = broker, topic, handler, retries
        self._topic = broker.topic(topic)
        self._worker = worker
        self._draining = False
        self._busy: set[asyncio.Task[None]] = set()
        self._tasks = [asyncio.create_task(self._serve(), name=f"{topic}-{i}") for i in range(concurrency)]

    async def drain(self, grace: float) -> None:
        self._draining = True
        for task in self._tasks:
            if task not in self._busy:
                task.cancel()
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _serve(self) -> None:
        this = asyncio.current_task()
        assert this is not None  # noqa: S101 - for the type checker: a task is running
        while not self._draining:
            kept = await self._topic.take()
            self._busy.add(this)
            await self._handle(kept)
            self._busy.discard(this)

    async def _handle(self, kept: _Kept) -> None:
        kept.attempts += 1
        try:
            outcome = await attempt(self._handler, kept.envelope, kept.attempts, self._retries, self._broker.rng)
        except asyncio.CancelledError:
            self._topic.put(kept)
            raise
        match outcome:
            case Done():
                self._topic.held -= 1
            case Again(reason, delay):
                self._broker.failed(kept, reason, self._worker)
                asyncio.get_running_loop().call_later(delay, self._topic.put, kept)
            case GivenUp(reason):
                self._broker.failed(kept, reason, self._worker)
                self._broker.bury(self._name, kept, reason)
            case _:
                assert_never(outcome)


class MemoryBus:
    """A `Bus` in memory. Buses with one `broker` are as processes with one server; without, it has one of its own."""

    def __init__(
        self,
        broker: MemoryBroker | None = None,
        *,
        name: str = "memory",
        clock: Clock = utc_now,
        rng: Random | None = None,
        capacity: int = 100_000,
    ) -> None:
        self.broker = broker or MemoryBroker(clock=clock, rng=rng, capacity=capacity)
        self._name = name
        self._closed = False

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What was given up, oldest first."""
        return self.broker.dead_letters

    async def publish(self, message: Message) -> None:
        if self._closed:
            raise BusUnavailable("the bus is closed")
        self.broker.publish(message)

    @asynccontextmanager
    async def subscribe(
        self, topic: str, handler: Handler, *, concurrency: int, retries: RetryPolicy
    ) -> AsyncIterator[_Subscription]:
        subscription = _Subscription(self.broker, topic, handler, concurrency, retries, self._name)
        try:
            yield subscription
        finally:
            await subscription.drain(1.0)

    async def held(self, topic: str) -> int:
        if self._closed:
            raise BusUnavailable("the bus is closed")
        return self.broker.topic(topic).held

    def announce(self, channel: str, subject: str) -> None:
        if not self._closed:
            loop = asyncio.get_running_loop()
            for heard in self.broker.listeners(channel):
                loop.call_soon(heard, subject)

    @asynccontextmanager
    async def listen(self, channel: str, heard: Callable[[str], None]) -> AsyncIterator[None]:
        listeners = self.broker.listeners(channel)
        listeners.append(heard)
        try:
            yield
        finally:
            listeners.remove(heard)

    async def close(self) -> None:
        self._closed = True


_named: WeakValueDictionary[str, MemoryBroker] = WeakValueDictionary()


def shared_broker(name: str) -> MemoryBroker:
    """The broker of that name in this process. It lives as long as a bus of it does."""
    broker = _named.get(name)
    if broker is None:
        broker = _named[name] = MemoryBroker()
    return broker
