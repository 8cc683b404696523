"""What an order may become, what it costs, and how its past is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.order.domain import Item, Line, Order, Product, priced
from shop_services.order.saga import SAGA, Command, Event, Status, TooLate
from shop_services.runtime.errors import FailedPrecondition, InvalidArgument
from shop_services.runtime.money import Money

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def product(name: str, hundredths: int, currency: str = "EUR") -> Product:
    return Product(name, name.upper(), Money(currency, hundredths))


def order(*events: Event) -> Order:
    """An order of two items to which `events` happened, a minute each."""
    items = priced([Line("pen", 3), Line("ink", 1)], {"pen": product("pen", 250), "ink": product("ink", 1)})
    made = Order.recorded("o1", "u1", items, NOON)
    for minute, event in enumerate(events, 1):
        made, _ = made.after(event, "", NOON + timedelta(minutes=minute))
    return made


@given(st.lists(st.sampled_from(Event), max_size=6))
def test_only_the_saga_moves_an_order(events: list[Event]) -> None:
    """Whatever happens is a step of the saga that grows the version by one, or comes too late and changes nothing."""
    now = order()
    for event in events:
        if (now.status, event) in SAGA:
            after, step = now.after(event, "why", NOON)
            assert step == SAGA[now.status, event]
            assert (after.status, after.version, after.history[:-1]) == (step.status, now.version + 1, now.history)
            now = after
        else:
            with pytest.raises(TooLate, match=f"the order is {now.status}: {event.value}"):
                now.after(event, "why", NOON)
    assert [t.version for t in now.history] == list(range(1, now.version + 1))


def test_every_earlier_version_can_be_told() -> None:
    """`at` gives the order as it was, with the history it had."""
    paid = order(Event.STOCK_RESERVED, Event.PAID)
    assert paid.at(1) == order()
    assert paid.at(2) == order(Event.STOCK_RESERVED)
    assert paid.at(3) == paid


@pytest.mark.parametrize("events", [(), (Event.STOCK_RESERVED,), (Event.STOCK_RESERVED, Event.PAID)])
def test_an_order_that_has_not_ended_can_be_cancelled(events: tuple[Event, ...]) -> None:
    """It becomes CANCELLED with the reason and the time, and owes the release of its stock at least."""
    later = NOON + timedelta(hours=1)
    cancelled, step = order(*events).cancelled("changed my mind", later)
    latest = (cancelled.status, cancelled.latest.reason, cancelled.latest.time)
    assert latest == (Status.CANCELLED, "changed my mind", later)
    assert Command.RELEASE in step.owes


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((Event.STOCK_RESERVED, Event.PAID, Event.STOCK_COMMITTED), "is FULFILLED already"),
        ((Event.TIMED_OUT,), "is FAILED already"),
        ((Event.CANCELLED,), "is CANCELLED already"),
    ],
)
def test_an_order_that_has_ended_cannot_be_cancelled(events: tuple[Event, ...], why: str) -> None:
    """The refusal says how it has ended."""
    with pytest.raises(FailedPrecondition, match=why):
        order(*events).cancelled("", NOON)


def test_totals_are_exact() -> None:
    """Amounts are whole hundredths, at the largest the API allows too."""
    dear = [Line(f"p{i}", 10_000) for i in range(100)]
    items = priced(dear, {line.product_id: product(line.product_id, 100_000_000_000) for line in dear})
    assert Order.recorded("o", "u", items, NOON).total == Money("EUR", 10**17)
    assert 10**17 < 2**63  # what a column of the database holds
    assert [item.subtotal.hundredths for item in order().items] == [750, 1]
    assert order().total == Money("EUR", 751)


def test_items_are_in_the_order_of_the_request() -> None:
    """Each has the name and the price of the catalog."""
    assert order().items[1] == Item("ink", 1, "INK", Money("EUR", 1))
    assert order().lines == (Line("pen", 3), Line("ink", 1))


def test_every_unknown_product_is_named() -> None:
    """All of them at once, each by its place in the request."""
    with pytest.raises(InvalidArgument) as refused:
        priced([Line("a", 1), Line("pen", 1), Line("b", 1)], {"pen": product("pen", 1)})
    assert refused.value.violations == (
        ("items[0].product_id", "there is no product 'a'"),
        ("items[2].product_id", "there is no product 'b'"),
    )


def test_currencies_do_not_mix() -> None:
    """There is no sum of euros and dollars."""
    with pytest.raises(InvalidArgument, match="items: are priced in several currencies: EUR, USD"):
        priced([Line("a", 1), Line("b", 1)], {"a": product("a", 1, "USD"), "b": product("b", 1)})
