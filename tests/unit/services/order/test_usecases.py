"""What can be done with orders, over a real SQLite database, beside users and products in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from shop_services.order.domain import Line
from shop_services.order.saga import Event, Status
from shop_services.product.inventory_domain import State
from shop_services.runtime.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from shop_services.runtime.etags import etag
from shop_services.runtime.money import Money
from tests.unit.services.order.pipeline import LINES, Pipeline, open_pipeline


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Pipeline]:
    async with open_pipeline(tmp_path) as pipeline:
        yield pipeline


async def test_an_order_has_the_prices_and_names_of_the_catalog(shop: Pipeline) -> None:
    """It is PENDING, version 1, with one transition and an exact total, and is found again as it was returned."""
    made = await shop.create()
    assert [(i.product_name, i.quantity, i.subtotal.hundredths) for i in made.items] == [
        ("Pen", 3, 750),
        ("Ink", 1, 999),
    ]
    assert (made.total, made.status, made.version, len(made.history)) == (Money("EUR", 1749), Status.PENDING, 1, 1)
    assert await shop.orders.get(made.id) == made


async def test_all_products_are_asked_for_at_once(shop: Pipeline) -> None:
    """However many items, the catalog is asked once."""
    await shop.create()
    assert shop.catalog.calls == [["pen", "ink"]]


async def test_an_order_keeps_its_prices(shop: Pipeline) -> None:
    """A price that changes later changes no order."""
    made = await shop.create()
    shop.catalog.add("pen", 1, name="Cheap pen")
    assert await shop.orders.get(made.id) == made


async def test_a_repeated_request_makes_no_other_order(shop: Pipeline) -> None:
    """It returns the order as it was recorded, whatever became of it, and asks nobody."""
    made = await shop.create()
    await shop.happened(made.id, Event.STOCK_RESERVED)
    shop.users.away = shop.catalog.away = True
    assert await shop.create() == made
    assert len(await shop.all()) == 1


@pytest.mark.parametrize(
    ("user", "lines", "method"),
    [
        ("bob", LINES, ""),
        ("ann", [Line("pen", 3), Line("ink", 2)], ""),
        ("ann", [Line("ink", 1), Line("pen", 3)], ""),
        ("ann", [Line("pen", 3)], ""),
        ("ann", LINES, "pm_card_mastercard"),
    ],
)
async def test_a_request_id_belongs_to_one_order(shop: Pipeline, user: str, lines: Sequence[Line], method: str) -> None:
    """With anything else in it, the request is refused, and its id is what is wrong with it."""
    await shop.create()
    with pytest.raises(InvalidArgument) as refused:
        await shop.create(user=user, lines=lines, method=method)
    assert [path for path, _ in refused.value.violations] == ["request_id"]
    assert len(await shop.all()) == 1


async def test_a_card_that_is_not_named_is_the_default(shop: Pipeline) -> None:
    """Leaving it out and naming it are one request."""
    made = await shop.create()
    assert made.payment_method == "pm_card_visa"
    assert await shop.create(method="pm_card_visa") == made


async def test_one_request_many_times_at_once_makes_one_order(shop: Pipeline) -> None:
    """All of them get the same answer, although all of them found nothing at first."""
    made = await asyncio.gather(*(shop.create() for _ in range(20)))
    assert set(made) == {made[0]}
    assert await shop.all() == (made[0],)


async def test_two_requests_with_one_id_at_once_make_one_order(shop: Pipeline) -> None:
    """One of them is recorded, and the other is refused, even if both were under way."""
    results = await asyncio.gather(shop.create(user="ann"), shop.create(user="bob"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["InvalidArgument", "Order"]
    assert len(await shop.all()) == 1


async def test_an_unknown_user_orders_nothing(shop: Pipeline) -> None:
    """The refusal names the user, and the request id can be used again."""
    with pytest.raises(FailedPrecondition, match="there is no user 'eve'") as refused:
        await shop.create(user="eve")
    assert refused.value.subject == "user/eve"
    assert await shop.create(user="ann") in await shop.all()


async def test_unknown_products_are_named_and_nothing_is_recorded(shop: Pipeline) -> None:
    """Each is named by its place in the request."""
    with pytest.raises(InvalidArgument) as refused:
        await shop.create(lines=[Line("pen", 1), Line("gone", 1), Line("lost", 1)])
    assert [path for path, _ in refused.value.violations] == ["items[1].product_id", "items[2].product_id"]
    assert await shop.all() == ()


@pytest.mark.parametrize("service", ["users", "catalog"])
async def test_who_cannot_be_asked_is_not_guessed(shop: Pipeline, service: str) -> None:
    """While users or products are away no order is recorded, and the same request succeeds when they are back."""
    dependency = getattr(shop, service)
    dependency.away = True
    with pytest.raises(Unavailable):
        await shop.create()
    assert await shop.all() == ()
    dependency.away = False
    assert await shop.create() in await shop.all()


async def test_what_is_unknown_is_not_found(shop: Pipeline) -> None:
    """Get, cancel and watch say which order there is not."""
    for call in (shop.orders.get("o1"), shop.cancel("o1"), anext(shop.orders.watch("o1"))):
        with pytest.raises(NotFound, match="there is no order 'o1'"):
            await call


async def test_what_is_anothers_is_not_found(shop: Pipeline) -> None:
    """In the words that are used of an order that does not exist; for its owner it is there, and nothing happened."""
    made = await shop.create(user="ann")
    words = f"there is no order '{made.id}'"
    for call in (
        shop.orders.get(made.id, "bob"),
        shop.cancel(made.id, owner="bob"),
        anext(shop.orders.watch(made.id, "bob")),
    ):
        with pytest.raises(NotFound, match=words):
            await call
    assert await shop.orders.get(made.id, "ann") == made
    async with aclosing(shop.orders.watch(made.id, "ann")) as states:
        assert await anext(states) == made
    assert await shop.cancel(made.id, owner="ann") == 2


async def test_a_kept_reply_is_not_anothers(shop: Pipeline) -> None:
    """Whoever repeats another's cancellation to the letter gets nothing."""
    made = await shop.create(user="ann")
    assert await shop.cancel(made.id, request_id="c1", owner="ann") == 2
    with pytest.raises(NotFound):
        await shop.cancel(made.id, request_id="c1", owner="bob")
    assert await shop.cancel(made.id, request_id="c1", owner="ann") == 2


async def test_pages_go_from_newest_to_oldest_without_gap_or_repetition(shop: Pipeline) -> None:
    """Orders that come meanwhile are newer than the first page, so they disturb none."""
    made = [(await shop.create(f"r{i}")).id for i in range(7)]
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = await shop.orders.page("", None, 3, token)
        seen += [order.id for order in page.items]
        token = page.next_token
        await shop.create(f"later{len(seen)}")
    assert seen == made[::-1]
    assert token == ""


async def test_lists_are_filtered_by_user_and_status(shop: Pipeline) -> None:
    """Either filter, or both."""
    ann, bob, other = [await shop.create(f"r{i}", user) for i, user in enumerate(["ann", "bob", "bob"])]
    await shop.cancel(bob.id)

    async def ids(user: str, status: Status | None) -> list[str]:
        return [order.id for order in (await shop.orders.page(user, status, 10, "")).items]

    assert await ids("bob", None) == [other.id, bob.id]
    assert await ids("", Status.PENDING) == [other.id, ann.id]
    assert await ids("bob", Status.CANCELLED) == [bob.id]
    assert await ids("ann", Status.CANCELLED) == []


async def test_a_page_token_is_for_its_own_filters(shop: Pipeline) -> None:
    """With another user or status, it is refused by name."""
    for i in range(3):
        await shop.create(f"r{i}")
    token = (await shop.orders.page("ann", None, 1, "")).next_token
    for user, status in (("bob", None), ("", None), ("ann", Status.PENDING)):
        with pytest.raises(InvalidArgument, match=r"^page_token"):
            await shop.orders.page(user, status, 1, token)


async def test_a_cancelled_order_tells_why_and_when(shop: Pipeline) -> None:
    """The reason and the time are in its history."""
    made = await shop.create()
    assert await shop.cancel(made.id, reason="too slow") == 2
    now = await shop.orders.get(made.id)
    assert (now.status, now.latest.reason, now.history[:1]) == (Status.CANCELLED, "too slow", made.history)
    assert now.latest.time > made.latest.time


async def test_cancelling_is_repeated_by_request_id_only(shop: Pipeline) -> None:
    """The same request gets its first answer again; another one is told that the order has ended."""
    made = await shop.create()
    assert await shop.cancel(made.id, request_id="c1") == 2
    assert await shop.cancel(made.id, request_id="c1") == 2
    for request_id in ("", "c2"):
        with pytest.raises(FailedPrecondition, match="is CANCELLED already"):
            await shop.cancel(made.id, request_id=request_id)
    with pytest.raises(InvalidArgument, match=r"^request_id"):
        await shop.cancel(made.id, reason="other", request_id="c1")


@pytest.mark.parametrize(
    ("events", "compensations"),
    [
        ((), ["order.release"]),
        ((Event.STOCK_RESERVED,), ["order.refund", "order.release"]),
        ((Event.STOCK_RESERVED, Event.PAID), ["order.refund", "order.release"]),
    ],
)
async def test_a_cancelled_order_owes_what_was_done(
    shop: Pipeline, events: Sequence[Event], compensations: list[str]
) -> None:
    """Its compensations and the one message to the customer are written with it."""
    made = await shop.create()
    await shop.happened(made.id, *events)
    for message in await shop.outgoing():
        await shop.lose(message)
    await shop.cancel(made.id)
    types = [message.envelope.type for message in await shop.outgoing()]
    assert sorted(types) == sorted([*compensations, "order.ended"])


async def test_the_stock_of_a_paid_order_is_released_before_it_is_cancelled(shop: Pipeline) -> None:
    """The reservation decides between the cancellation and the sale."""
    made = await shop.create()
    await shop.stock.reserve(made.id, made.lines)
    await shop.happened(made.id, Event.STOCK_RESERVED, Event.PAID)
    assert await shop.cancel(made.id, request_id="c1") == 4
    assert shop.stock.state(made.id) is State.RELEASED
    shop.stock.away = True
    assert await shop.cancel(made.id, request_id="c1") == 4


async def test_a_paid_order_whose_stock_is_sold_has_gone_too_far(shop: Pipeline) -> None:
    """It is not cancelled, and goes on."""
    made = await shop.create()
    await shop.stock.reserve(made.id, made.lines)
    paid = await shop.happened(made.id, Event.STOCK_RESERVED, Event.PAID)
    await shop.stock.commit(made.id)
    with pytest.raises(FailedPrecondition, match="is PAID: it has gone too far to be cancelled"):
        await shop.cancel(made.id)
    assert await shop.orders.get(made.id) == paid


async def test_a_paid_order_is_not_cancelled_while_its_stock_cannot_be_asked(shop: Pipeline) -> None:
    """The caller is told to try again, and the order is as it was."""
    made = await shop.create()
    paid = await shop.happened(made.id, Event.STOCK_RESERVED, Event.PAID)
    shop.stock.away = True
    with pytest.raises(Unavailable, match="the stock cannot be asked"):
        await shop.cancel(made.id)
    assert await shop.orders.get(made.id) == paid


async def test_an_old_etag_releases_no_stock(shop: Pipeline) -> None:
    """The state that the caller has seen is compared before anything is done."""
    made = await shop.create()
    await shop.happened(made.id, Event.STOCK_RESERVED, Event.PAID)
    with pytest.raises(Aborted):
        await shop.cancel(made.id, etag=etag("order", made.id, 1))
    assert shop.stock.calls == []


async def test_a_new_order_waits_to_be_reserved(shop: Pipeline) -> None:
    """The message is written with the order, in one transaction, and once for a request."""
    made = await shop.create()
    await shop.create()
    [message] = await shop.outgoing()
    sent = message.envelope
    assert (message.topic, sent.type, sent.order_id, sent.order_version) == ("orders", "order.reserve", made.id, 1)


async def test_a_cancellation_based_on_an_older_state_is_aborted(shop: Pipeline) -> None:
    """The etag of the state that was read decides; that of the present state is accepted."""
    made = await shop.create()
    with pytest.raises(Aborted):
        await shop.cancel(made.id, etag=etag("order", made.id, 7))
    assert await shop.cancel(made.id, etag=etag("order", made.id, 1)) == 2


async def test_of_two_cancellations_at_once_one_wins(shop: Pipeline) -> None:
    """The version is changed once, and the history has one CANCELLED."""
    made = await shop.create()
    results = await asyncio.gather(*(shop.cancel(made.id) for _ in range(5)), return_exceptions=True)
    assert [result for result in results if result == 2] == [2]
    assert sum(isinstance(result, FailedPrecondition) for result in results) == 4
    assert (await shop.orders.get(made.id)).version == 2


async def test_a_change_on_an_older_version_is_refused_by_the_database(shop: Pipeline) -> None:
    """Whoever moves an order that was moved meanwhile changes nothing."""
    made = await shop.create()
    moved = await shop.happened(made.id, Event.STOCK_RESERVED)
    with pytest.raises(Unavailable, match="being changed by others"):
        await shop.database.atomically(lambda connection: shop.progress.happened(connection, made, Event.STOCK_REFUSED))
    assert await shop.orders.get(made.id) == moved


async def test_a_watcher_sees_a_cancellation_at_once_and_the_watch_ends(shop: Pipeline) -> None:
    """A change of this process does not wait for the next query."""
    made = await shop.create()
    shop.watches._interval = 3600
    async with aclosing(shop.orders.watch(made.id)) as states, asyncio.timeout(5):
        assert await anext(states) == made
        await shop.cancel(made.id)
        assert [state.status async for state in states] == [Status.CANCELLED]


async def test_watching_what_has_ended_tells_it_once(shop: Pipeline) -> None:
    """There is nothing to wait for."""
    made = await shop.create()
    await shop.cancel(made.id)
    async with asyncio.timeout(5):
        assert [state.status async for state in shop.orders.watch(made.id)] == [Status.CANCELLED]
