"""The table of reservations: every state meets every action here."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.rpc import error_details_pb2 as rpc

from shop_services.product.errors import InsufficientStock, Shortage
from shop_services.product.inventory_domain import (
    STEPS,
    Action,
    Item,
    Move,
    Reservation,
    State,
    Stock,
    ordered,
    shortages,
)
from shop_services.runtime.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from shop_services.runtime.status import status_of

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_LATER = datetime(2026, 1, 2, tzinfo=UTC)
_ITEMS = (Item("a", 2), Item("b", 1))


def _reservation(state: State) -> Reservation:
    return replace(Reservation.unseen("o1", _NOW), state=state, items=() if state is State.UNSEEN else _ITEMS)


@pytest.mark.parametrize(
    ("state", "action", "expected"),
    [
        (State.UNSEEN, Action.RESERVE, (State.RESERVED, Move.SET_ASIDE)),
        (State.UNSEEN, Action.RELEASE, (State.RELEASED, Move.NONE)),
        (State.UNSEEN, Action.COMMIT, NotFound),
        (State.RESERVED, Action.RESERVE, (State.RESERVED, Move.NONE)),
        (State.RESERVED, Action.RELEASE, (State.RELEASED, Move.GIVE_BACK)),
        (State.RESERVED, Action.COMMIT, (State.COMMITTED, Move.SELL)),
        (State.RELEASED, Action.RESERVE, FailedPrecondition),
        (State.RELEASED, Action.RELEASE, (State.RELEASED, Move.NONE)),
        (State.RELEASED, Action.COMMIT, FailedPrecondition),
        (State.COMMITTED, Action.RESERVE, FailedPrecondition),
        (State.COMMITTED, Action.RELEASE, FailedPrecondition),
        (State.COMMITTED, Action.COMMIT, (State.COMMITTED, Move.NONE)),
    ],
)
def test_every_action_on_every_state(
    state: State, action: Action, expected: tuple[State, Move] | type[DomainError]
) -> None:
    """An action does what the comments of the API say, or is refused with the status that they name."""
    before = _reservation(state)
    if not isinstance(expected, tuple):
        with pytest.raises(expected, match="'o1'"):
            before.after(action, _ITEMS, _LATER)
        return
    after, move = before.after(action, _ITEMS, _LATER)
    assert (after.state, move) == expected
    if after.state is state:
        assert after is before
    else:
        assert (after.create_time, after.update_time) == (_NOW, _LATER)
        assert after.items == (() if (state, action) == (State.UNSEEN, Action.RELEASE) else _ITEMS)


def test_the_table_is_complete() -> None:
    """No action on any state is left to chance."""
    assert set(STEPS) == set(itertools.product(State, Action))


@pytest.mark.parametrize("move", Move)
def test_a_move_creates_and_destroys_nothing(move: Move) -> None:
    """What a move takes from one place it brings to another."""
    assert sum(move.value) == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_sequence_an_order_holds_its_items_once(seed: int) -> None:
    """After any sequence of actions, what was moved is exactly what the state says: nothing, set aside, or sold."""
    draw = random.Random(seed)
    held = {State.UNSEEN: [0, 0, 0], State.RELEASED: [0, 0, 0], State.RESERVED: [-1, 1, 0], State.COMMITTED: [-1, 0, 1]}
    order, places = Reservation.unseen("o1", _NOW), [0, 0, 0]
    for _ in range(50):
        try:
            order, move = order.after(draw.choice(list(Action)), _ITEMS, _LATER)
        except DomainError:
            continue
        places = [place + change for place, change in zip(places, move.value, strict=True)]
        assert places == held[order.state]


def test_an_order_that_holds_other_items_is_an_invalid_argument() -> None:
    """Reserving again with another quantity, more or fewer products is refused, and the field is named."""
    for items in ((Item("a", 3), Item("b", 1)), (Item("a", 2),), (*_ITEMS, Item("c", 1))):
        with pytest.raises(InvalidArgument) as caught:
            _reservation(State.RESERVED).after(Action.RESERVE, items, _LATER)
        assert caught.value.violations[0][0] == "items"


def test_the_order_of_items_does_not_matter() -> None:
    """The same items in another order are the same items."""
    assert ordered(reversed(_ITEMS)) == ordered(_ITEMS)


def test_every_product_that_is_short_is_found() -> None:
    """Each product with too little left is reported with what was asked and what is left; enough is no shortage."""
    stock = {"a": Stock("a", 1, 5, 0), "b": Stock("b", 1, 0, 0), "c": Stock("c", 0, 0, 0)}
    assert shortages((*_ITEMS, Item("c", 7)), stock) == [Shortage("a", 2, 1), Shortage("c", 7, 0)]


def test_a_product_that_does_not_exist_is_named() -> None:
    """There is no shortage of what never was or has left the catalog: it is not found."""
    for stock in ({}, {"b": Stock("b", 9, 0, 0, listed=False)}):
        with pytest.raises(NotFound, match="'b'"):
            shortages(_ITEMS, {"a": Stock("a", 0, 0, 0), **stock})


def test_stock_is_adjusted_down_to_none_and_no_further() -> None:
    """Only what is available can be taken away; the refusal says how many that are."""
    stock = Stock("a", 3, 9, 9)
    assert stock.adjusted(2) == Stock("a", 5, 9, 9)
    assert stock.adjusted(-3) == Stock("a", 0, 9, 9)
    with pytest.raises(InsufficientStock, match="asked 4, left 3"):
        stock.adjusted(-4)


def test_a_shortage_names_each_product_in_message_and_details() -> None:
    """The message and the violations name each product, what was asked and what is left."""
    error = InsufficientStock([Shortage("a", 2, 1), Shortage("c", 7, 0)])
    assert error.message == "not enough stock: product 'a': asked 2, left 1; product 'c': asked 7, left 0"
    (failure,) = error.specifics()
    assert isinstance(failure, rpc.PreconditionFailure)
    assert [(v.type, v.subject, v.description) for v in failure.violations] == [
        ("STOCK", "a", "asked 2, left 1"),
        ("STOCK", "c", "asked 7, left 0"),
    ]


def test_a_hundred_long_shortages_fit_into_a_status() -> None:
    """The longest possible list is cut with a word on how many more there are, and the details are still sent."""
    error = InsufficientStock([Shortage(f"{i:064}", 1_000_000, 999_999) for i in range(100)])
    status = status_of(error, "r1")
    failure = rpc.PreconditionFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    last = failure.violations[-1]
    assert (len(failure.violations) - 1) + int(last.description.split()[1]) == 100
    assert status.ByteSize() < 6000
