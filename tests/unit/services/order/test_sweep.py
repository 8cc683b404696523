"""Orders that stand still are moved on, once, ever more patiently, and given up in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shop_services.messaging.bus import BusUnavailable
from shop_services.order.saga import Event, Status
from shop_services.product.inventory_domain import State
from shop_services.runtime.errors import Unavailable
from tests.unit.services.order.pipeline import STUCK, TIMEOUT, Pipeline, open_pipeline

SECOND = timedelta(seconds=1)


@pytest.fixture
async def pipeline(tmp_path: Path) -> AsyncIterator[Pipeline]:
    async with open_pipeline(tmp_path) as opened:
        yield opened


async def lose_all(pipeline: Pipeline) -> list[str]:
    """Take every message that waits; returns their types."""
    outgoing = await pipeline.outgoing()
    for message in outgoing:
        await pipeline.lose(message)
    return sorted(message.envelope.type for message in outgoing)


async def test_an_order_under_way_is_left_alone(pipeline: Pipeline) -> None:
    """Only one that made no progress for the bound gets its message again, which has an id of its own."""
    await pipeline.create()
    [first] = await pipeline.outgoing()
    pipeline.clock.now += STUCK - 10 * SECOND
    assert await pipeline.sweep.sweep() == 0
    pipeline.clock.now += 10 * SECOND
    assert await pipeline.sweep.sweep() == 1
    [_, second] = await pipeline.outgoing()
    assert (second.topic, second.envelope.type) == ("orders", "order.reserve")
    assert first.envelope.id != second.envelope.id


@pytest.mark.parametrize(
    ("events", "types"),
    [
        ((), ["order.reserve"]),
        ((Event.STOCK_RESERVED,), ["order.charge"]),
        ((Event.STOCK_RESERVED, Event.PAID), ["order.commit"]),
        ((Event.STOCK_REFUSED,), ["order.release"]),
        ((Event.STOCK_RESERVED, Event.CANCELLED), ["order.refund", "order.release"]),
        ((Event.STOCK_RESERVED, Event.PAID, Event.STOCK_COMMITTED), []),
    ],
)
async def test_what_was_lost_is_sent_again(pipeline: Pipeline, events: tuple[Event, ...], types: list[str]) -> None:
    """The message of its state, or what it still owes; never `order.ended` again, and nothing if nothing is left."""
    made = await pipeline.create()
    await pipeline.happened(made.id, *events)
    await lose_all(pipeline)
    pipeline.clock.now += STUCK
    await pipeline.sweep.sweep()
    assert await lose_all(pipeline) == types


async def test_patience_grows_to_an_hour(pipeline: Pipeline) -> None:
    """A paid order whose messages vanish is sent again for ever, after 30 s, 1 min, 2 min … 1 h."""
    made = await pipeline.create()
    await pipeline.happened(made.id, Event.STOCK_RESERVED, Event.PAID)
    await lose_all(pipeline)
    for nudges in range(9):
        wait = min(STUCK * 2**nudges, timedelta(hours=1))
        pipeline.clock.now += wait - SECOND
        assert await pipeline.sweep.sweep() == 0
        pipeline.clock.now += SECOND
        assert await pipeline.sweep.sweep() == 1
        assert await lose_all(pipeline) == ["order.commit"]


async def test_what_is_not_paid_in_time_is_given_up(pipeline: Pipeline) -> None:
    """However rarely it would be nudged by then: it fails at its timeout, with its compensations."""
    made = await pipeline.create()
    await pipeline.deliver((await pipeline.outgoing())[0])
    while (await pipeline.orders.get(made.id)).status is Status.PROCESSING:
        await lose_all(pipeline)
        pipeline.clock.now += 10 * SECOND
        await pipeline.sweep.sweep()
    order = await pipeline.orders.get(made.id)
    assert (order.status, order.latest.reason) == (Status.FAILED, "timed out")
    assert TIMEOUT <= order.latest.time - order.create_time < TIMEOUT + 11 * SECOND
    await pipeline.run()
    assert pipeline.stock.state(made.id) is State.RELEASED


async def test_what_is_paid_for_is_never_given_up(pipeline: Pipeline) -> None:
    """A day later it is still to be delivered."""
    made = await pipeline.create()
    await pipeline.happened(made.id, Event.STOCK_RESERVED, Event.PAID)
    pipeline.clock.now += timedelta(days=1)
    await pipeline.sweep.sweep()
    assert (await pipeline.orders.get(made.id)).status is Status.PAID


async def test_two_instances_send_it_once(pipeline: Pipeline) -> None:
    """They meet at the order's row."""
    for i in range(5):
        await pipeline.create(f"r{i}")
    await lose_all(pipeline)
    pipeline.clock.now += STUCK
    await asyncio.gather(*(pipeline.sweep.sweep() for _ in range(4)))
    assert await lose_all(pipeline) == ["order.reserve"] * 5


async def test_two_instances_give_it_up_once(pipeline: Pipeline) -> None:
    """One transition, and one message to the customer."""
    made = await pipeline.create()
    await lose_all(pipeline)
    pipeline.clock.now += TIMEOUT
    await asyncio.gather(*(pipeline.sweep.sweep() for _ in range(4)))
    assert await lose_all(pipeline) == ["order.ended", "order.release"]
    assert (await pipeline.orders.get(made.id)).version == 2


async def test_a_batch_is_bounded(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left over is found by the next look."""
    monkeypatch.setattr("shop_services.order.sweep.BATCH", 5)
    for i in range(6):
        await pipeline.create(f"r{i}")
    pipeline.clock.now += STUCK
    assert [await pipeline.sweep.sweep() for _ in range(3)] == [5, 1, 0]


async def test_orders_that_wait_in_line_are_left_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many messages wait for workers nothing is added to them; once they are few, what is lost is found."""
    line = 101

    async def held(topic: str) -> int:
        return line

    monkeypatch.setattr(pipeline.bus, "held", held)
    await pipeline.create()
    await lose_all(pipeline)
    pipeline.clock.now += STUCK
    assert [await pipeline.sweep.sweep(), await lose_all(pipeline)] == [0, []]
    line = 100
    assert await pipeline.sweep.sweep() == 0  # looked at a moment ago
    pipeline.clock.now += STUCK
    assert [await pipeline.sweep.sweep(), await lose_all(pipeline)] == [1, ["order.reserve"]]


async def test_a_timeout_waits_in_no_line(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that is not paid for in time is given up, also while the bus is away."""

    async def away(topic: str) -> int:
        raise BusUnavailable("away")

    monkeypatch.setattr(pipeline.bus, "held", away)
    made = await pipeline.create()
    pipeline.clock.now += STUCK
    assert await pipeline.sweep.sweep() == 0
    pipeline.clock.now += TIMEOUT
    assert await pipeline.sweep.sweep() == 1
    assert (await pipeline.orders.get(made.id)).status is Status.FAILED


async def test_it_sweeps_by_itself_and_survives_a_failure(pipeline: Pipeline) -> None:
    """A database that does not answer once ends nothing."""
    await pipeline.create()
    pipeline.clock.now += STUCK
    failures = [Unavailable("the database is not available")]
    swept = asyncio.Event()

    async def sweep() -> int:
        if failures:
            raise failures.pop()
        swept.set()
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.sweep, "_interval", 0.001)
        patch.setattr(pipeline.sweep, "sweep", sweep)
        async with pipeline.sweep.sweeping():
            await asyncio.wait_for(swept.wait(), 5)
    assert not failures
