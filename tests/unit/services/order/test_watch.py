"""Watchers are told every version once, by one task for all of them, which is there only while they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from shop_services.order.domain import Item, Order
from shop_services.order.saga import Event, Status
from shop_services.order.watch import Watches
from shop_services.runtime.errors import ResourceExhausted, Unavailable
from shop_services.runtime.money import Money

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NEVER = 3600.0
PENDING, PROCESSING, PAID, CANCELLED = Status.PENDING, Status.PROCESSING, Status.PAID, Status.CANCELLED

EVENTS = {PROCESSING: Event.STOCK_RESERVED, PAID: Event.PAID, CANCELLED: Event.CANCELLED}


class Source:
    """What a database would answer. `calls` are the ids that each query asked for; `asked` is set by each."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.calls: list[list[str]] = []
        self.asked = asyncio.Event()
        self.failures = 0

    def add(self, order_id: str) -> Order:
        order = Order.recorded(order_id, "u1", [Item("pen", 1, "Pen", Money("EUR", 100))], NOON)
        self.orders[order_id] = order
        return order

    def move(self, order_id: str, *path: Status) -> None:
        for status in path:
            self.orders[order_id], _ = self.orders[order_id].after(EVENTS[status], "", NOON)

    async def newer(self, versions: Mapping[str, int]) -> Sequence[Order]:
        self.calls.append(sorted(versions))
        self.asked.set()
        if self.failures:
            self.failures -= 1
            raise Unavailable("the database is not available")
        return [self.orders[name] for name, version in versions.items() if self.orders[name].version > version]


async def statuses(states: AsyncGenerator[Order, None], count: int) -> list[Status]:
    """The statuses of the next `count` states, which must come within 5 s."""
    async with asyncio.timeout(5):
        return [(await anext(states)).status for _ in range(count)]


async def test_a_watcher_is_told_what_is_and_then_every_version_up_to_the_last() -> None:
    """Versions that came between two looks are told one by one; the final one ends the watch."""
    source = Source()
    watches = Watches(source, interval=NEVER)
    states = watches.follow(source.add("o1"))
    assert await statuses(states, 1) == [PENDING]
    source.move("o1", PROCESSING, PAID, CANCELLED)
    watches.look()
    told = [state async for state in states]
    assert [state.status for state in told] == [PROCESSING, PAID, CANCELLED]
    assert [len(state.history) for state in told] == [2, 3, 4]
    await watches.close()


async def test_a_change_that_nobody_tells_of_is_found_by_looking() -> None:
    """Another process gives no hint; the next query finds its change."""
    source = Source()
    watches = Watches(source, interval=0.001)
    async with aclosing(watches.follow(source.add("o1"))) as states:
        await statuses(states, 1)
        source.move("o1", PROCESSING)
        assert await statuses(states, 1) == [PROCESSING]
    await watches.close()


async def test_one_query_serves_all_watchers() -> None:
    """Three watchers of two orders cost one query of two ids."""
    source = Source()
    watches = Watches(source, interval=NEVER)
    one, two = source.add("o1"), source.add("o2")
    followers = [watches.follow(one), watches.follow(one), watches.follow(two)]
    for follower in followers:
        await statuses(follower, 1)
    source.move("o1", PROCESSING)
    watches.look()
    for follower in followers[:2]:
        assert await statuses(follower, 1) == [PROCESSING]
    assert source.calls == [["o1", "o2"]]
    await watches.close()


async def test_nobody_watching_means_no_task_and_no_query() -> None:
    """The last watcher who leaves ends the polling, and a later one begins it again."""
    source = Source()
    watches = Watches(source, interval=0.001)
    for _ in range(2):
        async with aclosing(watches.follow(source.add("o1"))) as states:
            await statuses(states, 1)
            source.asked.clear()
            await asyncio.wait_for(source.asked.wait(), 5)
        poller = watches._poller
        assert poller is not None
        await asyncio.wait_for(poller, 5)
        assert repr(watches) == "<Watches idle: 0 watchers of 0 orders>"
        watches.look()  # a change while nobody watches asks nothing either
        assert watches._poller is poller


async def test_a_newcomer_who_knows_more_tells_the_others() -> None:
    """A watch begins with a read of the order, which may be newer than what the watchers have."""
    source = Source()
    watches = Watches(source, interval=NEVER)
    async with aclosing(watches.follow(source.add("o1"))) as early:
        await statuses(early, 1)
        source.move("o1", PROCESSING)
        async with aclosing(watches.follow(source.orders["o1"])) as late:
            assert await statuses(late, 1) == [PROCESSING]
            assert await statuses(early, 1) == [PROCESSING]
    await watches.close()


async def test_a_short_failure_is_not_noticed() -> None:
    """Queries that fail are repeated, and the change is told when one succeeds."""
    source = Source()
    watches = Watches(source, interval=0.001)
    async with aclosing(watches.follow(source.add("o1"))) as states:
        await statuses(states, 1)
        source.failures = 3
        source.move("o1", PROCESSING)
        assert await statuses(states, 1) == [PROCESSING]
    await watches.close()


async def test_a_long_failure_ends_the_watches() -> None:
    """Who cannot be told of changes is told so, and may watch again."""
    source = Source()
    source.failures = 10**9
    watches = Watches(source, interval=0.001, patience=0.05)
    states = watches.follow(source.add("o1"))
    await statuses(states, 1)
    with pytest.raises(Unavailable, match="does not answer"):
        await statuses(states, 1)
    source.failures = 0
    async with aclosing(watches.follow(source.orders["o1"])) as again:
        await statuses(again, 1)
        source.move("o1", PROCESSING)
        assert await statuses(again, 1) == [PROCESSING]
    await watches.close()


async def test_a_database_that_hangs_ends_the_watches() -> None:
    """A query without an answer is a failure, too."""

    class Hanging(Source):
        async def newer(self, versions: Mapping[str, int]) -> Sequence[Order]:
            await asyncio.Event().wait()
            raise AssertionError

    source = Hanging()
    watches = Watches(source, interval=0.001, patience=0.01)
    states = watches.follow(source.add("o1"))
    await statuses(states, 1)
    with pytest.raises(Unavailable, match="does not answer"):
        await statuses(states, 1)
    await watches.close()


async def test_closing_ends_every_watch_and_refuses_new_ones() -> None:
    """Whoever watches learns that it should go on at another instance; nothing runs afterwards."""
    source = Source()
    watches = Watches(source, interval=NEVER)
    states = watches.follow(source.add("o1"))
    await statuses(states, 1)
    waiting = asyncio.create_task(statuses(states, 1))
    await asyncio.sleep(0)
    await watches.close()
    with pytest.raises(Unavailable, match="draining; watch again"):
        await waiting
    with pytest.raises(Unavailable, match="draining; watch again"):
        await anext(watches.follow(source.orders["o1"]))
    assert watches._poller is not None
    assert watches._poller.done()
    await watches.close()
    assert repr(watches) == "<Watches closed: 0 watchers of 0 orders>"


async def test_what_is_known_already_is_told_before_a_watch_ends() -> None:
    """Closing does not take back a change that was found."""
    source = Source()
    watches = Watches(source, interval=NEVER)
    states = watches.follow(source.add("o1"))
    await statuses(states, 1)
    source.move("o1", PROCESSING, PAID)
    source.asked.clear()
    watches.look()
    assert await statuses(states, 1) == [PROCESSING]
    await watches.close()
    assert await statuses(states, 1) == [PAID]
    with pytest.raises(Unavailable):
        await anext(states)


async def test_watchers_are_bounded() -> None:
    """One too many is refused, until another leaves."""
    source = Source()
    watches = Watches(source, interval=NEVER, max_watchers=1)
    order = source.add("o1")
    async with aclosing(watches.follow(order)) as states:
        await statuses(states, 1)
        with pytest.raises(ResourceExhausted, match="being watched"):
            await anext(watches.follow(order))
    async with aclosing(watches.follow(order)) as states:
        assert await statuses(states, 1) == [PENDING]
    await watches.close()
