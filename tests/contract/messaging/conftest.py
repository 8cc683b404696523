"""The contract of the bus holds in memory and on JetStream."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from random import Random

import pytest

from shop.events.v1.events_pb2 import DeadLetter
from shop_services.messaging.bus import Bus, Message
from shop_services.messaging.dead_letters import open_dead_letters
from shop_services.messaging.envelopes import envelope
from shop_services.messaging.jetstream import JetStreamBus, Limits
from shop_services.messaging.memory import MemoryBroker, MemoryBus
from tests.servers import Nats


class Buses(ABC):
    """Makes buses of one shop, as its processes do."""

    def __init__(self) -> None:
        self.made: list[Bus] = []

    def bus(self, name: str = "tester") -> Bus:
        made = self._make(name)
        self.made.append(made)
        return made

    @abstractmethod
    def _make(self, name: str) -> Bus: ...

    @abstractmethod
    def hold(self, messages: int) -> None:
        """Let topics hold so many messages; before the first bus is made."""

    def give_up_workers_after(self, seconds: float) -> None:  # noqa: B027 - in memory none is lost
        """Take a worker for dead that says nothing for so long; before the first bus is made."""

    @abstractmethod
    async def dead_letters(self) -> list[DeadLetter]:
        """What was given up so far."""


class MemoryBuses(Buses):
    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker(rng=Random(1))

    def _make(self, name: str) -> Bus:
        return MemoryBus(self.broker, name=name)

    def hold(self, messages: int) -> None:
        self.broker = MemoryBroker(rng=Random(1), capacity=messages)

    async def dead_letters(self) -> list[DeadLetter]:
        return self.broker.dead_letters


class JetStreamBuses(Buses):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._limits = Limits()
        self._ack_wait = 60.0  # or a test that stands still for a while has its messages delivered twice

    def _make(self, name: str) -> Bus:
        return JetStreamBus(self._url, name=name, rng=Random(1), limits=self._limits, ack_wait=self._ack_wait)

    def hold(self, messages: int) -> None:
        self._limits = Limits(messages=messages)

    def give_up_workers_after(self, seconds: float) -> None:
        self._ack_wait = seconds

    async def dead_letters(self) -> list[DeadLetter]:
        async with open_dead_letters(self._url) as letters:
            return await letters.all()


@pytest.fixture(params=["memory", "jetstream"])
async def buses(request: pytest.FixtureRequest) -> AsyncIterator[Buses]:
    if request.param == "memory":
        made: Buses = MemoryBuses()
    else:
        server: Nats = request.getfixturevalue("nats")
        made = JetStreamBuses(server.url)
    yield made
    for bus in made.made:
        await bus.close()


@pytest.fixture
async def bus(buses: Buses) -> Bus:
    return buses.bus()


@pytest.fixture
def message() -> Callable[..., Message]:
    """Makes a message by its id."""

    def make(id: str, topic: str = "orders") -> Message:
        return Message(topic, envelope("order.reserve", f"order-{id}", 1, id=id, time=datetime.now(UTC)))

    return make


class Handled:
    """A handler that notes the ids it is called with, and may fail. `until` waits for a number of calls."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.errors: list[Exception] = []
        self._called = asyncio.Condition()

    async def __call__(self, received: object) -> None:
        async with self._called:
            self.ids.append(getattr(received, "id", "?"))
            self._called.notify_all()
        if self.errors:
            raise self.errors.pop(0)

    async def until(self, calls: int) -> list[str]:
        async with asyncio.timeout(30), self._called:
            await self._called.wait_for(lambda: len(self.ids) >= calls)
        return self.ids


@pytest.fixture
def handled() -> Handled:
    return Handled()
