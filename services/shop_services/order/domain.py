"""An order: what it is, what it may become, and what it costs. Pure: no clock, no storage, no gRPC."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shop_services.runtime.errors import FailedPrecondition, InvalidArgument
from shop_services.runtime.money import Money, total

KIND = "order"
"""What errors and etags call an order."""


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
        return not NEXT[self]


# What may follow what. Every change of an order goes through this table, whoever makes it.
NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.PAID, Status.FAILED, Status.CANCELLED}),
    Status.PAID: frozenset({Status.FULFILLED, Status.FAILED, Status.CANCELLED}),
    Status.FULFILLED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

# From where a user may call an order off. Later, stock is set aside or money is taken, and that must be undone as well.
CANCELLABLE = frozenset({Status.PENDING})


@dataclass(frozen=True, slots=True)
class Line:
    """What a caller asks for: a quantity of a product. Its price is not theirs to say."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Product:
    """What the catalog says of a product at this moment."""

    id: str
    name: str
    price: Money


@dataclass(frozen=True, slots=True)
class Item:
    """A quantity of a product, with a copy of its name and price as they were when the order was recorded."""

    product_id: str
    quantity: int
    product_name: str
    unit_price: Money

    @property
    def subtotal(self) -> Money:
        """The price of all of them."""
        return self.unit_price * self.quantity


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an order's status, and the order's version since then."""

    version: int
    status: Status
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """What a user buys. All items are in one currency; `history` has a transition for every version, oldest first."""

    id: str
    user_id: str
    items: tuple[Item, ...]
    history: tuple[Transition, ...]

    @classmethod
    def recorded(cls, order_id: str, user_id: str, items: Iterable[Item], time: datetime) -> Order:
        """A new order: PENDING, version 1."""
        return cls(order_id, user_id, tuple(items), (Transition(1, Status.PENDING, "", time),))

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a list, and never less: up to four a character, and some for the rest."""
        return 1500 + sum(4 * (len(item.product_name) + len(item.product_id)) + 100 for item in self.items)

    @property
    def total(self) -> Money:
        """The sum of all items."""
        return total(item.subtotal for item in self.items)

    @property
    def latest(self) -> Transition:
        """What made the order what it is now."""
        return self.history[-1]

    @property
    def status(self) -> Status:
        return self.latest.status

    @property
    def version(self) -> int:
        return self.latest.version

    @property
    def lines(self) -> tuple[Line, ...]:
        """What was asked for, to compare a repeated request with."""
        return tuple(Line(item.product_id, item.quantity) for item in self.items)

    def at(self, version: int) -> Order:
        """The order as it was at an earlier version."""
        return replace(self, history=self.history[:version])

    def moved(self, status: Status, reason: str, time: datetime) -> Order:
        """The order after a change of its status. Its version grows by one.

        Raises:
            FailedPrecondition: the table does not allow it; the message says from where to where.
        """
        if status not in NEXT[self.status]:
            raise self._refused(f"is {self.status} and cannot become {status}")
        return replace(self, history=(*self.history, Transition(self.version + 1, status, reason, time)))

    def cancelled(self, reason: str, time: datetime) -> Order:
        """The order, called off by its user.

        Raises:
            FailedPrecondition: it has ended, also if it was cancelled before; or it has gone too far.
        """
        if self.status.final:
            raise self._refused(f"is {self.status} already")
        if self.status not in CANCELLABLE:
            raise self._refused(f"is {self.status}: it has gone too far to be cancelled")
        return self.moved(Status.CANCELLED, reason, time)

    def _refused(self, why: str) -> FailedPrecondition:
        return FailedPrecondition("ORDER_STATUS", f"{KIND}/{self.id}", f"{KIND} {self.id!r} {why}")


def priced(lines: Sequence[Line], products: Mapping[str, Product]) -> tuple[Item, ...]:
    """The items that `lines` ask for, at the prices of `products`, in the order of the lines.

    Raises:
        InvalidArgument: products are missing (each is named by its line), or are priced in several currencies.
    """
    missing = [(i, line.product_id) for i, line in enumerate(lines) if line.product_id not in products]
    if missing:
        raise InvalidArgument((f"items[{i}].product_id", f"there is no product {name!r}") for i, name in missing)
    items = tuple(
        Item(line.product_id, line.quantity, products[line.product_id].name, products[line.product_id].price)
        for line in lines
    )
    currencies = sorted({item.unit_price.currency for item in items})
    if len(currencies) > 1:
        raise InvalidArgument.of("items", f"are priced in several currencies: {', '.join(currencies)}")
    return items
