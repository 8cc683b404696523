"""The saga of an order, from top to bottom: what may happen, what it becomes by that, and what is to be done then.

Pure: no clock, no storage, no messages. Every change of an order goes through `SAGA`, whoever makes it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Status(enum.StrEnum):
    """How far an order has come. The names are those of the API."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    PAID = "PAID"
    FULFILLED = "FULFILLED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether nothing can come after it."""
        return self not in DUE


class Event(enum.Enum):
    """What may happen to an order."""

    STOCK_RESERVED = "its stock was reserved"
    STOCK_REFUSED = "its stock was refused"
    PAID = "it was paid for"
    PAYMENT_REFUSED = "its payment was refused"
    STOCK_COMMITTED = "its stock was committed"
    CANCELLED = "its user called it off"
    TIMED_OUT = "it took too long"


class Command(enum.Enum):
    """What is to be done for an order, by messages: their topic and type."""

    RESERVE = ("orders", "order.reserve")
    CHARGE = ("payments", "order.charge")
    COMMIT = ("inventory", "order.commit")
    RELEASE = ("inventory", "order.release")
    REFUND = ("payments", "order.refund")
    TELL = ("notifications", "order.ended")

    @property
    def topic(self) -> str:
        return self.value[0]

    @property
    def type(self) -> str:
        return self.value[1]


COMPENSATIONS = frozenset({Command.RELEASE, Command.REFUND})
"""What an order that ended owes until it is done. Each also keeps out what it undoes, should that come later."""

DUE: Mapping[Status, Command] = {
    Status.PENDING: Command.RESERVE,
    Status.PROCESSING: Command.CHARGE,
    Status.PAID: Command.COMMIT,
}
"""What moves an order on from where it is. There is nothing for those that have ended."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an order becomes, and what is then to be done."""

    status: Status
    commands: tuple[Command, ...]

    @property
    def owes(self) -> frozenset[Command]:
        """Those of the commands that must be done before the order may be forgotten."""
        return COMPENSATIONS.intersection(self.commands)


class TooLate(Exception):
    """The order has moved on: what happened is no longer of any effect."""


# An order ends at once, and its compensations are owed. The stock is released even where none was reserved yet, for a
# reservation may be under way; so may be a charge, from PROCESSING on. The step that ends it is the one that tells.
_GIVEN_UP = (Command.RELEASE, Command.TELL)
_PAID_BACK = (Command.RELEASE, Command.REFUND, Command.TELL)

SAGA: Mapping[tuple[Status, Event], Step] = {
    (Status.PENDING, Event.STOCK_RESERVED): Step(Status.PROCESSING, (Command.CHARGE,)),
    (Status.PENDING, Event.STOCK_REFUSED): Step(Status.FAILED, _GIVEN_UP),
    (Status.PENDING, Event.CANCELLED): Step(Status.CANCELLED, _GIVEN_UP),
    (Status.PENDING, Event.TIMED_OUT): Step(Status.FAILED, _GIVEN_UP),
    #
    (Status.PROCESSING, Event.PAID): Step(Status.PAID, (Command.COMMIT,)),
    (Status.PROCESSING, Event.PAYMENT_REFUSED): Step(Status.FAILED, _PAID_BACK),
    (Status.PROCESSING, Event.CANCELLED): Step(Status.CANCELLED, _PAID_BACK),
    (Status.PROCESSING, Event.TIMED_OUT): Step(Status.FAILED, _PAID_BACK),
    #
    # What is paid for is delivered, however long it takes: it does not time out. It is cancelled after its stock was
    # released, or refused if that was cut short: the reservation decides which of the two comes first.
    (Status.PAID, Event.STOCK_COMMITTED): Step(Status.FULFILLED, (Command.TELL,)),
    (Status.PAID, Event.STOCK_REFUSED): Step(Status.FAILED, _PAID_BACK),
    (Status.PAID, Event.CANCELLED): Step(Status.CANCELLED, _PAID_BACK),
}


def step(status: Status, event: Event) -> Step:
    """What `event` makes of an order that is `status`. Raises `TooLate` where the saga has nothing for the two."""
    try:
        return SAGA[status, event]
    except KeyError:
        raise TooLate(f"the order is {status}: {event.value}, but too late") from None
