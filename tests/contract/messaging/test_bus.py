"""What every bus promises to who publishes and to who handles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shop.events.v1.events_pb2 import DeadLetter, Envelope
from shop_services.messaging.bus import Bus, BusFull, Message, Reject
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import Unavailable
from tests.contract.messaging.conftest import Buses, Handled, JetStreamBuses

QUICK = RetryPolicy(attempts=3, first=0.05, longest=0.2)

MakeMessage = Callable[..., Message]


async def until(look: Callable[[], Awaitable[list[DeadLetter]]]) -> list[DeadLetter]:
    """What `look` finds, as soon as it finds something."""
    async with asyncio.timeout(30):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.02)


async def shrinks(bus: Bus, held: int) -> None:
    """Return when the topic `orders` holds no more than `held` messages."""
    async with asyncio.timeout(30):
        while True:
            if await bus.held("orders") <= held:
                return
            await asyncio.sleep(0.02)


async def test_a_message_is_handled_once_and_as_it_was_published(
    bus: Bus, message: MakeMessage, handled: Handled
) -> None:
    """What was published reaches one handler of one worker, whole."""
    received: list[Envelope] = []

    async def handler(envelope: Envelope) -> None:
        received.append(envelope)
        await handled(envelope)

    published = message("a")
    await bus.publish(published)
    async with (
        bus.subscribe("orders", handler, concurrency=2, retries=QUICK),
        bus.subscribe("orders", handler, concurrency=2, retries=QUICK),
    ):
        await bus.publish(message("b"))
        assert sorted(await handled.until(2)) == ["a", "b"]
    assert published.envelope in received
    async with bus.subscribe("orders", handler, concurrency=1, retries=QUICK):
        await bus.publish(message("c"))
        assert sorted(await handled.until(3)) == ["a", "b", "c"]


async def test_topics_are_apart(bus: Bus, message: MakeMessage, handled: Handled) -> None:
    """A handler sees the messages of its topic alone."""
    async with bus.subscribe("payments", handled, concurrency=1, retries=QUICK):
        await bus.publish(message("for orders", "orders"))
        await bus.publish(message("for payments", "payments"))
        assert await handled.until(1) == ["for payments"]


async def test_a_failed_message_comes_again_after_its_backoff(bus: Bus, message: MakeMessage, handled: Handled) -> None:
    """After a failure the message is tried again, not before the delay of the policy."""
    handled.errors = [Unavailable("away"), ValueError("a defect")]
    policy = RetryPolicy(attempts=3, first=0.2, factor=2, jitter=0)
    begin = asyncio.get_running_loop().time()
    async with bus.subscribe("orders", handled, concurrency=1, retries=policy):
        await bus.publish(message("a"))
        assert await handled.until(3) == ["a", "a", "a"]
    assert asyncio.get_running_loop().time() - begin >= 0.6


async def test_a_message_that_always_fails_becomes_a_dead_letter(
    buses: Buses, message: MakeMessage, handled: Handled
) -> None:
    """After its attempts it is a dead letter, with the reason, every attempt in order, and who made it."""
    handled.errors = [ValueError(f"number {i}") for i in (1, 2, 3)]
    bus = buses.bus("worker-7")
    published = message("a")
    async with bus.subscribe("orders", handled, concurrency=1, retries=QUICK):
        await bus.publish(published)
        letters = await until(buses.dead_letters)
        assert handled.ids == ["a", "a", "a"]
    assert len(letters) == 1
    letter = letters[0]
    assert (letter.id, letter.topic, letter.reason) == ("orders-1", "orders", "ValueError: number 3")
    assert letter.envelope == published.envelope
    assert [(each.attempt, each.reason, each.worker) for each in letter.history] == [
        (i, f"ValueError: number {i}", "worker-7") for i in (1, 2, 3)
    ]
    times = [each.time.ToDatetime() for each in letter.history]
    assert times == sorted(times)


async def test_the_history_holds_the_attempts_of_all_workers(
    buses: Buses, message: MakeMessage, handled: Handled
) -> None:
    """Attempts of a worker that is gone are in the history too."""
    handled.errors = [ValueError("here"), ValueError("there")]
    policy = RetryPolicy(attempts=2, first=0.05)
    first, second = buses.bus("first"), buses.bus("second")
    begun, leaving = asyncio.Event(), asyncio.Event()

    async def last(envelope: Envelope) -> None:
        begun.set()
        await leaving.wait()  # so that the next attempt is not this worker's, too
        await handled(envelope)

    await first.publish(message("a"))
    async with first.subscribe("orders", last, concurrency=1, retries=policy) as subscription:
        async with asyncio.timeout(30):
            await begun.wait()
        draining = asyncio.create_task(subscription.drain(30.0))
        await asyncio.sleep(0)
        leaving.set()
        await draining
    async with second.subscribe("orders", handled, concurrency=1, retries=policy):
        (letter,) = await until(buses.dead_letters)
    assert [(each.attempt, each.worker) for each in letter.history] == [(1, "first"), (2, "second")]


async def test_a_handler_whose_call_was_cancelled_fails_and_the_next_is_handled(
    bus: Bus, message: MakeMessage, handled: Handled
) -> None:
    """Only a stop cancels a handler: a `CancelledError` of its own is a failure like others, and ends no worker."""

    async def handler(envelope: Envelope) -> None:
        await handled(envelope)
        if len(handled.ids) == 1:
            raise asyncio.CancelledError

    async with bus.subscribe("orders", handler, concurrency=1, retries=QUICK):
        await bus.publish(message("a"))
        assert await handled.until(2) == ["a", "a"]
        await bus.publish(message("b"))
        assert await handled.until(3) == ["a", "a", "b"]


async def test_a_rejected_message_is_given_up_at_once(buses: Buses, message: MakeMessage, handled: Handled) -> None:
    """`Reject` ends in the dead letters in the first attempt, with its reason."""
    handled.errors = [Reject("no such order")]
    bus = buses.bus()
    async with bus.subscribe("orders", handled, concurrency=1, retries=QUICK):
        await bus.publish(message("a"))
        (letter,) = await until(buses.dead_letters)
    assert letter.reason == "no such order"
    assert [each.attempt for each in letter.history] == [1]
    assert handled.ids == ["a"]


async def test_one_id_is_kept_once(bus: Bus, message: MakeMessage, handled: Handled) -> None:
    """A message that is published twice is handled once, also when that was done already."""
    await asyncio.gather(bus.publish(message("a")), bus.publish(message("a")))
    async with bus.subscribe("orders", handled, concurrency=1, retries=QUICK):
        await handled.until(1)
        await bus.publish(message("a"))
        await bus.publish(message("b"))
        assert await handled.until(2) == ["a", "b"]


async def test_no_more_handlers_run_than_were_asked_for(bus: Bus, message: MakeMessage, handled: Handled) -> None:
    """With `concurrency` 3, three handlers run at a time, never four."""
    running, most = 0, 0
    three = asyncio.Event()

    async def handler(envelope: Envelope) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            three.set()
        await three.wait()  # however slowly the first messages come
        await asyncio.sleep(0.02)
        running -= 1
        await handled(envelope)

    for i in range(20):
        await bus.publish(message(str(i)))
    async with bus.subscribe("orders", handler, concurrency=3, retries=QUICK):
        async with asyncio.timeout(30):
            await three.wait()
        await handled.until(20)
    assert most == 3


async def test_a_full_topic_takes_nothing_until_there_is_room(
    buses: Buses, message: MakeMessage, handled: Handled
) -> None:
    """Publishing into a full topic raises `BusFull`, and works again after a message was handled."""
    buses.hold(2)
    bus = buses.bus()
    await bus.publish(message("a"))
    await bus.publish(message("b"))
    with pytest.raises(BusFull):
        await bus.publish(message("c"))
    await bus.publish(message("elsewhere", "payments"))
    async with bus.subscribe("orders", handled, concurrency=1, retries=QUICK):
        await handled.until(2)
        async with asyncio.timeout(30):
            while True:
                try:
                    await bus.publish(message("c"))
                    break
                except BusFull:
                    await asyncio.sleep(0.02)
        assert await handled.until(3) == ["a", "b", "c"]


async def test_a_slow_handler_keeps_its_message(buses: Buses, message: MakeMessage, handled: Handled) -> None:
    """A handler that takes far longer than a dead worker is waited for is not doubled by another worker."""

    async def handler(envelope: Envelope) -> None:
        await handled(envelope)
        await asyncio.sleep(seconds)
        finished.set()

    finished = asyncio.Event()
    buses.give_up_workers_after(5.0)  # while both stand still for three seconds nothing is said, either
    seconds = 7.5 if isinstance(buses, JetStreamBuses) else 0.5  # in memory nobody is given up, however long it takes
    one, other = buses.bus("one"), buses.bus("other")
    async with (
        one.subscribe("orders", handler, concurrency=1, retries=QUICK),
        other.subscribe("orders", handler, concurrency=1, retries=QUICK),
    ):
        await one.publish(message("a"))
        async with asyncio.timeout(30):
            await finished.wait()
    assert handled.ids == ["a"]


async def test_draining_lets_handlers_finish_and_takes_no_more(
    bus: Bus, message: MakeMessage, handled: Handled
) -> None:
    """`drain` waits for the handler at work, and begins no other."""
    finished: list[str] = []

    async def handler(envelope: Envelope) -> None:
        await handled(envelope)
        await asyncio.sleep(0.3)
        finished.append(envelope.id)

    await bus.publish(message("a"))
    await bus.publish(message("b"))
    async with bus.subscribe("orders", handler, concurrency=1, retries=QUICK) as subscription:
        await handled.until(1)
        await subscription.drain(30.0)
        assert finished == ["a"]
        await subscription.drain(5.0)
    assert handled.ids == ["a"]


async def test_what_does_not_finish_in_time_is_handed_over_at_once(
    buses: Buses, message: MakeMessage, handled: Handled
) -> None:
    """A handler that is cancelled by `drain` has its message given to another worker without a wait."""
    cancelled = asyncio.Event()

    async def endless(envelope: Envelope) -> None:
        try:
            await handled(envelope)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    one, other = buses.bus("one"), buses.bus("other")
    await one.publish(message("a"))
    async with one.subscribe("orders", endless, concurrency=1, retries=QUICK) as subscription:
        await handled.until(1)
        begin = asyncio.get_running_loop().time()
        await subscription.drain(0.05)
        assert cancelled.is_set()
    async with other.subscribe("orders", handled, concurrency=1, retries=QUICK):
        assert await handled.until(2) == ["a", "a"]
    assert asyncio.get_running_loop().time() - begin < 10  # and not the minute that a dead worker is waited for


async def test_announcements_reach_all_who_listen(buses: Buses) -> None:
    """Every process that listens hears what another announces on that channel, and not what comes after it left."""
    one, other = buses.bus("one"), buses.bus("other")
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with (
        one.listen("orders", lambda subject: heard.put_nowait(("one", subject))),
        other.listen("orders", lambda subject: heard.put_nowait(("other", subject))),
        asyncio.timeout(30),
    ):
        got: set[tuple[str, str]] = set()
        while len(got) < 2:
            other.announce("users", "nobody")
            other.announce("orders", "order-1")
            await asyncio.sleep(0.02)
            while not heard.empty():
                got.add(heard.get_nowait())
    assert got == {("one", "order-1"), ("other", "order-1")}


async def test_closing_twice_is_fine(bus: Bus, message: MakeMessage) -> None:
    """`close` is idempotent, and announcing on a closed bus harms nobody."""
    await bus.publish(message("a"))
    await bus.close()
    await bus.close()
    bus.announce("orders", "order-1")


async def test_what_is_not_done_is_counted(bus: Bus, message: MakeMessage, handled: Handled) -> None:
    """Messages that wait for a handler or for another attempt, until they are done."""
    assert await bus.held("orders") == 0
    for name in "abc":
        await bus.publish(message(name))
    assert await bus.held("orders") == 3
    handled.errors = [Unavailable("not now")]
    async with bus.subscribe("orders", handled, concurrency=1, retries=RetryPolicy(attempts=3, first=1.0)):
        await handled.until(3)
        await shrinks(bus, 1)
        await handled.until(4)
        await shrinks(bus, 0)
