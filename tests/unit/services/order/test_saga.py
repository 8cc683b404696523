"""The saga decides everything that may happen to an order, and every path through it ends well."""

from __future__ import annotations

from itertools import product

import pytest

from shop_services.messaging.bus import TOPICS
from shop_services.order.saga import COMPENSATIONS, DUE, SAGA, Command, Event, Status, TooLate, step

PENDING, PROCESSING, PAID = Status.PENDING, Status.PROCESSING, Status.PAID
FULFILLED, FAILED, CANCELLED = Status.FULFILLED, Status.FAILED, Status.CANCELLED

# What each event makes of each status, in the order of `Event`; None: too late. It is written out again here, so that a
# change of the saga is a decision.
TABLE: dict[Status, list[Status | None]] = {
    # STOCK_RESERVED, STOCK_REFUSED, PAID, PAYMENT_REFUSED, STOCK_COMMITTED, CANCELLED, TIMED_OUT
    PENDING: [PROCESSING, FAILED, None, None, None, CANCELLED, FAILED],
    PROCESSING: [None, None, PAID, FAILED, None, CANCELLED, FAILED],
    PAID: [None, FAILED, None, None, FULFILLED, CANCELLED, None],
    FULFILLED: [None] * 7,
    FAILED: [None] * 7,
    CANCELLED: [None] * 7,
}


@pytest.mark.parametrize(("status", "event"), list(product(Status, Event)))
def test_every_pair_is_decided(status: Status, event: Event) -> None:
    """Each event at each status leads where it should, or is too late."""
    expected = TABLE[status][list(Event).index(event)]
    if expected is None:
        with pytest.raises(TooLate, match=f"the order is {status}"):
            step(status, event)
    else:
        assert step(status, event).status is expected


def test_a_step_that_goes_on_causes_what_is_due() -> None:
    """So the message of a step and the one that the sweep sends later are the same."""
    for made in SAGA.values():
        if made.status.final:
            assert Command.TELL in made.commands
            assert made.commands.count(Command.TELL) == 1
        else:
            assert made.commands == (DUE[made.status],)


def test_what_was_done_is_undone() -> None:
    """Whatever ends unfulfilled owes the stock, and from PROCESSING on the money; nothing else owes anything."""
    for (status, _), made in SAGA.items():
        expected = set()
        if made.status in (FAILED, CANCELLED):
            expected = {Command.RELEASE} if status is PENDING else set(COMPENSATIONS)
        assert made.owes == expected


def test_every_path_ends() -> None:
    """No order goes round in circles: at most three steps."""

    def longest(status: Status) -> int:
        return max((1 + longest(made.status) for (now, _), made in SAGA.items() if now is status), default=0)

    assert longest(PENDING) == 3
    assert {status for status in Status if status.final} == {FULFILLED, FAILED, CANCELLED}


def test_commands_go_to_topics_that_exist() -> None:
    """And their types are told apart."""
    assert {command.topic for command in Command} == set(TOPICS)
    assert len({command.type for command in Command}) == len(Command)
