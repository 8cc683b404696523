"""What workers do: over a real SQLite database, beside stock and payments in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from shop.events.v1.events_pb2 import Envelope, OrderEnded
from shop_services.messaging.bus import Message, Reject
from shop_services.messaging.retry import RetryPolicy
from shop_services.order import storage
from shop_services.order.domain import Line, Order
from shop_services.order.saga import Command, Event, Status
from shop_services.product.inventory_domain import State
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.times import to_timestamp
from tests.unit.services.order.pipeline import Pipeline, open_pipeline

QUICK = RetryPolicy(attempts=20, first=0.01, longest=0.05)
REFUSED = "pm_card_chargeDeclinedInsufficientFunds"


@pytest.fixture
async def pipeline(tmp_path: Path) -> AsyncIterator[Pipeline]:
    async with open_pipeline(tmp_path) as opened:
        yield opened


async def owed(pipeline: Pipeline, order: Order) -> frozenset[Command]:
    async with pipeline.database.reading() as connection:
        return (await storage.get_owing(connection, order.id))[1]


async def only(pipeline: Pipeline) -> Message:
    """The one message that waits."""
    [message] = await pipeline.outgoing()
    return message


def endings(envelopes: list[Envelope]) -> list[tuple[str, str]]:
    """How the orders ended that customers are told of, and why."""
    bodies = []
    for envelope in envelopes:
        body = OrderEnded()
        assert envelope.body.Unpack(body)
        bodies.append((body.status, body.reason))
    return bodies


async def test_an_order_is_reserved_charged_and_committed(pipeline: Pipeline) -> None:
    """Over a bus with workers: each step is recorded, the card is charged the total, the stock is sold."""
    async with pipeline.working(QUICK) as told, asyncio.timeout(30):
        made = await pipeline.create()
        envelope = await told.get()
    order = await pipeline.orders.get(made.id)
    path = [Status.PENDING, Status.PROCESSING, Status.PAID, Status.FULFILLED]
    assert [transition.status for transition in order.history] == path
    assert pipeline.payments.net(order.id) == order.total.hundredths == 1749
    assert pipeline.stock.state(order.id) is State.COMMITTED
    body = OrderEnded()
    assert envelope.body.Unpack(body)
    assert (envelope.order_id, envelope.order_version, body.user_id) == (order.id, 4, "ann")
    assert [(i.product_name, i.quantity, i.subtotal.units) for i in body.items] == [("Pen", 3, 7), ("Ink", 1, 9)]
    assert (body.total.units, body.order_time) == (17, to_timestamp(order.create_time))


async def test_a_watcher_is_woken_by_what_workers_announce(pipeline: Pipeline) -> None:
    """Every step is seen at once, though the watch asks the database by itself only once an hour."""
    pipeline.watches._interval = 3600
    made = await pipeline.create()
    async with (
        pipeline.bus.listen("orders", pipeline.watches.changed),
        aclosing(pipeline.orders.watch(made.id)) as states,
        asyncio.timeout(30),
    ):
        assert (await anext(states)).status is Status.PENDING  # from now on no announcement is missed
        async with pipeline.working(QUICK):
            pipeline.outbox.committed(await pipeline.outgoing())
            seen = [order.status async for order in states]
    assert seen == [Status.PROCESSING, Status.PAID, Status.FULFILLED]


async def test_a_refused_card_gives_the_stock_back(pipeline: Pipeline) -> None:
    """The order fails with the provider's reason; nothing is charged or owed, and the customer is told once."""
    made = await pipeline.create(method=REFUSED)
    await pipeline.run()
    order = await pipeline.orders.get(made.id)
    assert (order.status, order.latest.reason) == (Status.FAILED, "payment refused: insufficient_funds")
    assert (pipeline.payments.net(order.id), pipeline.stock.state(order.id)) == (0, State.RELEASED)
    assert pipeline.stock.stock["pen"].available == 10
    assert await owed(pipeline, order) == frozenset()
    assert endings(pipeline.told) == [("FAILED", "payment refused: insufficient_funds")]


async def test_too_little_stock_fails_the_order_before_any_charge(pipeline: Pipeline) -> None:
    """The reason names the product, and the payment provider hears of nothing."""
    made = await pipeline.create(lines=[Line("pen", 11)])
    await pipeline.run()
    order = await pipeline.orders.get(made.id)
    assert (order.status, order.latest.reason) == (Status.FAILED, "not enough stock: product 'pen': asked 11, left 10")
    assert pipeline.payments.calls == []
    assert (pipeline.stock.state(order.id), await owed(pipeline, order)) == (State.RELEASED, frozenset())


async def test_what_costs_nothing_is_not_charged(pipeline: Pipeline) -> None:
    """An order of gifts is fulfilled without the payment provider, which takes no zero amounts."""
    made = await pipeline.create(lines=[Line("gift", 1)])
    await pipeline.run()
    assert (await pipeline.orders.get(made.id)).status is Status.FULFILLED
    assert pipeline.payments.calls == []


async def test_a_message_that_comes_twice_is_done_once(pipeline: Pipeline) -> None:
    """Every message of an order is delivered three times; it is fulfilled with four versions, charged and told once."""
    made = await pipeline.create()
    while outgoing := await pipeline.outgoing():
        for message in outgoing:
            for _ in range(3 if message.topic != "notifications" else 1):
                await pipeline.deliver(message)
    order = await pipeline.orders.get(made.id)
    assert (order.status, order.version) == (Status.FULFILLED, 4)
    assert (pipeline.payments.charges[order.id].captures, len(pipeline.told)) == (1, 1)


async def test_one_message_at_two_workers_at_once_makes_one_step(pipeline: Pipeline) -> None:
    """Both ask the other service, which does it once; one of them writes the step, and one message follows."""
    made = await pipeline.create()
    message = await only(pipeline)
    handle = pipeline.handlers.of("orders")
    await asyncio.gather(handle(message.envelope), handle(message.envelope))
    await pipeline.lose(message)
    assert (await pipeline.orders.get(made.id)).version == 2
    assert (await only(pipeline)).envelope.type == "order.charge"


@pytest.mark.parametrize("silent", [False, True])
async def test_what_is_not_known_to_be_done_is_tried_again(pipeline: Pipeline, silent: bool) -> None:
    """A dependency that is away, or works and does not answer, fails the attempt; the next one completes it."""
    made = await pipeline.create()
    await pipeline.deliver(await only(pipeline))
    pipeline.payments.away, pipeline.payments.silent = not silent, int(silent)
    charge = await only(pipeline)
    with pytest.raises(Unavailable):
        await pipeline.deliver(charge)
    assert (await pipeline.orders.get(made.id)).status is Status.PROCESSING
    pipeline.payments.away = False
    await pipeline.run()
    assert (await pipeline.orders.get(made.id)).status is Status.FULFILLED
    assert pipeline.payments.charges[made.id].captures == 1


async def test_a_late_reservation_finds_the_order_cancelled(pipeline: Pipeline) -> None:
    """Whether the release comes before or after it, the stock is whole in the end."""
    for late in (False, True):
        made = await pipeline.create(f"r{late}")
        [reserve] = [m for m in await pipeline.outgoing() if m.envelope.type == "order.reserve"]
        await pipeline.cancel(made.id)
        if late:  # as if a worker had read the order before it was cancelled, and slept since
            await pipeline.lose(reserve)
            await pipeline.run()
            outcome = await pipeline.handlers._reserve(made)
            await pipeline.progress.handled(reserve.envelope, made, *outcome)
        await pipeline.run()
        assert (await pipeline.orders.get(made.id)).status is Status.CANCELLED
        assert pipeline.stock.state(made.id) is State.RELEASED
    assert pipeline.stock.stock["pen"].available == 10
    assert endings(pipeline.told) == [("CANCELLED", "")] * 2


async def test_a_late_charge_finds_the_payment_voided(pipeline: Pipeline) -> None:
    """A worker that read the order before it was cancelled charges nothing after the refund."""
    made = await pipeline.create()
    await pipeline.deliver(await only(pipeline))
    charge, processing = await only(pipeline), await pipeline.orders.get(made.id)
    await pipeline.cancel(made.id)
    await pipeline.run()
    outcome = await pipeline.handlers._charge(processing)
    await pipeline.progress.handled(charge.envelope, processing, *outcome)
    assert pipeline.payments.net(made.id) == 0
    assert (await pipeline.orders.get(made.id)).status is Status.CANCELLED
    assert endings(pipeline.told) == [("CANCELLED", "")]


async def test_stock_that_was_released_at_a_paid_order_fails_it_and_is_refunded(pipeline: Pipeline) -> None:
    """What a cancellation leaves behind that died after its first step."""
    made = await pipeline.create()
    for _ in range(2):
        await pipeline.deliver(await only(pipeline))
    assert pipeline.payments.net(made.id) == 1749
    await pipeline.stock.release(made.id)
    await pipeline.run()
    order = await pipeline.orders.get(made.id)
    assert (order.status, order.latest.reason) == (Status.FAILED, "its stock was released")
    assert (pipeline.payments.net(made.id), await owed(pipeline, order)) == (0, frozenset())


async def test_a_payment_that_was_refunded_by_hand_fails_the_order(pipeline: Pipeline) -> None:
    """Nothing else is known of it, and nothing is delivered for it."""
    made = await pipeline.create()
    await pipeline.deliver(await only(pipeline))
    await pipeline.payments.refund(made.id)
    await pipeline.run()
    order = await pipeline.orders.get(made.id)
    assert (order.status, order.latest.reason) == (Status.FAILED, "its payment was refunded")


async def test_sold_stock_of_an_order_that_failed_is_for_a_person_to_see(pipeline: Pipeline) -> None:
    """The release is rejected with what is wrong, and stays owed."""
    made = await pipeline.create()
    await pipeline.stock.reserve(made.id, made.lines)
    await pipeline.stock.commit(made.id)
    await pipeline.happened(made.id, Event.TIMED_OUT)
    [release] = [m for m in await pipeline.outgoing() if m.envelope.type == "order.release"]
    with pytest.raises(Reject, match=r"the order is FAILED, but cannot release .* it was committed before"):
        await pipeline.deliver(release)
    assert await owed(pipeline, made) == {Command.RELEASE}


async def test_messages_that_mean_nothing_are_rejected(pipeline: Pipeline) -> None:
    """A type of another topic, an unknown one, and an order that does not exist: each says what is wrong."""
    for topic, envelope, why in (
        ("orders", Envelope(id="m1", type="order.charge"), "the topic orders has no messages of type 'order.charge'"),
        ("payments", Envelope(id="m2", type=""), "the topic payments has no messages of type ''"),
        ("orders", Envelope(id="m3", type="order.reserve", order_id="o1"), "there is no order 'o1'"),
    ):
        with pytest.raises(Reject, match=why):
            await pipeline.handlers.of(topic)(envelope)
