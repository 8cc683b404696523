"""What the bus in memory does beyond the contract, and how processes find one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import BusUnavailable, Message
from shop_services.messaging.connect import connect_bus
from shop_services.messaging.envelopes import envelope
from shop_services.messaging.jetstream import JetStreamBus
from shop_services.messaging.memory import MemoryBus
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.settings import Settings
from tests.servers import free_port

START = datetime(2026, 11, 22, tzinfo=UTC)


def message(id: str) -> Message:
    return Message("orders", envelope("order.reserve", "order-1", 1, id=id, time=START))


async def first(bus: MemoryBus, count: int) -> list[str]:
    """The ids of the next messages."""
    came: asyncio.Queue[str] = asyncio.Queue()

    async def handler(received: Envelope) -> None:
        came.put_nowait(received.id)

    async with bus.subscribe("orders", handler, concurrency=1, retries=RetryPolicy()), asyncio.timeout(5):
        return [await came.get() for _ in range(count)]


async def test_an_id_is_forgotten_after_two_minutes() -> None:
    """As on JetStream: a later message of the same id is a message."""
    now = START
    bus = MemoryBus(clock=lambda: now)
    await bus.publish(message("a"))
    now += timedelta(minutes=2)
    await bus.publish(message("a"))
    now += timedelta(seconds=1)
    await bus.publish(message("a"))
    await bus.publish(message("b"))
    assert await first(bus, 3) == ["a", "a", "b"]


async def test_a_dead_letter_has_the_time_of_the_clock() -> None:
    """Times come from the clock that was passed in."""
    bus = MemoryBus(clock=lambda: START, name="worker-1")

    async def handler(_envelope: Envelope) -> None:
        done.set()
        raise ValueError("x")

    done = asyncio.Event()
    async with bus.subscribe("orders", handler, concurrency=1, retries=RetryPolicy(attempts=1)) as subscription:
        await bus.publish(message("a"))
        await done.wait()
        await subscription.drain(30.0)
    (letter,) = bus.dead_letters
    assert letter.time.ToDatetime(UTC) == START
    assert letter.history[0].worker == "worker-1"


async def test_what_is_published_is_a_copy() -> None:
    """Changing an envelope after it was published changes nothing."""
    bus = MemoryBus()
    published = message("a")
    await bus.publish(published)
    published.envelope.id = "changed"
    assert await first(bus, 1) == ["a"]


async def test_a_closed_bus_takes_nothing() -> None:
    """Publishing on it raises."""
    bus = MemoryBus()
    await bus.close()
    with pytest.raises(BusUnavailable):
        await bus.publish(message("a"))


async def test_buses_of_one_name_share_what_is_published() -> None:
    """`memory://NAME` is one broker in a process, another name is another, and closing one bus leaves the others."""
    settings = Settings(nats_url="memory://shop-1")
    publisher, worker = connect_bus(settings, name="order"), connect_bus(settings, name="orders-worker")
    other = connect_bus(Settings(nats_url="memory://shop-2"), name="order")
    assert isinstance(worker, MemoryBus)
    assert isinstance(other, MemoryBus)
    await other.publish(message("elsewhere"))
    await publisher.publish(message("a"))
    await publisher.close()
    assert await first(worker, 1) == ["a"]
    assert await first(other, 1) == ["elsewhere"]


async def test_a_url_of_nats_gives_a_bus_on_jetstream() -> None:
    """It is made although no server is there."""
    bus = connect_bus(Settings(nats_url=f"nats://127.0.0.1:{free_port()}"), name="order")
    try:
        assert isinstance(bus, JetStreamBus)
    finally:
        await bus.close()
