"""What an order may become, what it costs, and how its past is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.order.domain import NEXT, Item, Line, Order, Product, Status, priced
from shop_services.runtime.errors import FailedPrecondition, InvalidArgument
from shop_services.runtime.money import Money

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def product(name: str, hundredths: int, currency: str = "EUR") -> Product:
    return Product(name, name.upper(), Money(currency, hundredths))


def order(*path: Status) -> Order:
    """An order of two items that went along `path`, a minute a step."""
    items = priced([Line("pen", 3), Line("ink", 1)], {"pen": product("pen", 250), "ink": product("ink", 1)})
    made = Order.recorded("o1", "u1", items, NOON)
    for minute, status in enumerate(path, 1):
        made = made.moved(status, "", NOON + timedelta(minutes=minute))
    return made


def test_the_table_knows_every_status() -> None:
    """No status is forgotten, and what has ended leads nowhere."""
    assert set(NEXT) == set(Status)
    assert {status for status in Status if status.final} == {Status.FULFILLED, Status.FAILED, Status.CANCELLED}


@given(st.lists(st.sampled_from(Status), max_size=6))
def test_only_the_table_moves_an_order(path: list[Status]) -> None:
    """Along any path, a step is either in the table and grows the version by one, or is refused and changes nothing."""
    now = order()
    for step in path:
        if step in NEXT[now.status]:
            after = now.moved(step, "why", NOON)
            assert (after.status, after.version, after.history[:-1]) == (step, now.version + 1, now.history)
            now = after
        else:
            with pytest.raises(FailedPrecondition, match=f"is {now.status} and cannot become {step}"):
                now.moved(step, "why", NOON)
    assert [t.version for t in now.history] == list(range(1, now.version + 1))


def test_every_earlier_version_can_be_told() -> None:
    """`at` gives the order as it was, with the history it had."""
    paid = order(Status.PROCESSING, Status.PAID)
    assert paid.at(1) == order()
    assert paid.at(2) == order(Status.PROCESSING)
    assert paid.at(3) == paid


def test_a_pending_order_can_be_cancelled() -> None:
    """It becomes CANCELLED with the reason and the time."""
    later = NOON + timedelta(hours=1)
    cancelled = order().cancelled("changed my mind", later)
    assert (cancelled.status, cancelled.latest.reason, cancelled.latest.time) == (
        Status.CANCELLED,
        "changed my mind",
        later,
    )


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ((Status.PROCESSING,), "is PROCESSING: it has gone too far"),
        ((Status.PROCESSING, Status.PAID), "is PAID: it has gone too far"),
        ((Status.FAILED,), "is FAILED already"),
        ((Status.CANCELLED,), "is CANCELLED already"),
    ],
)
def test_any_other_order_cannot_be_cancelled(path: tuple[Status, ...], why: str) -> None:
    """The refusal says what the order is, and whether it has ended."""
    with pytest.raises(FailedPrecondition, match=why):
        order(*path).cancelled("", NOON)


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
