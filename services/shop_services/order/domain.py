"""An order: what it is, what it may become, and what it costs. Pure: no clock, no storage, no gRPC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shop_services.order.saga import Event, Status, Step, step
from shop_services.runtime.errors import FailedPrecondition, InvalidArgument
from shop_services.runtime.money import Money, total

KIND = "order"
"""What errors and etags call an order."""

DEFAULT_PAYMENT_METHOD = "pm_card_visa"
"""What pays if a caller names nothing else."""


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
    payment_method: str
    items: tuple[Item, ...]
    history: tuple[Transition, ...]

    @classmethod
    def recorded(
        cls, order_id: str, user_id: str, items: Iterable[Item], time: datetime, payment_method: str = ""
    ) -> Order:
        """A new order: PENDING, version 1. `payment_method` is a card's token; empty for the default."""
        method = payment_method or DEFAULT_PAYMENT_METHOD
        return cls(order_id, user_id, method, tuple(items), (Transition(1, Status.PENDING, "", time),))

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a list, and never less: up to four a character, and some for the rest."""
        return 1500 + sum(4 * (len(item.product_name) + len(item.product_id)) + 100 for item in self.items)

    @property
    def create_time(self) -> datetime:
        """When it was recorded."""
        return self.history[0].time

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

    def after(self, event: Event, reason: str, time: datetime) -> tuple[Order, Step]:
        """The order after something that happened to it, and what is to be done now. Its version grows by one.

        Raises:
            TooLate: the saga has nothing for it.
        """
        made = step(self.status, event)
        history = (*self.history, Transition(self.version + 1, made.status, reason, time))
        return replace(self, history=history), made

    def cancelled(self, reason: str, time: datetime) -> tuple[Order, Step]:
        """The order, called off by its user, and what is to be done now. The stock of a PAID one is released before.

        Raises:
            FailedPrecondition: it has ended, also if it was cancelled before.
        """
        if self.status.final:
            raise self.refusal(f"is {self.status} already")
        return self.after(Event.CANCELLED, reason, time)

    def refusal(self, why: str) -> FailedPrecondition:
        """The error that says why something cannot be done with the order: "is FAILED already"."""
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
