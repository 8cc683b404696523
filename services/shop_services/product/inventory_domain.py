"""What may become of an order's stock, and what each step moves. Pure: no protobuf, no database, no clock."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from shop_services.product.domain import KIND
from shop_services.product.errors import InsufficientStock, Shortage
from shop_services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Stock:
    """Where a product's items are: on sale, set aside for orders, sold. `listed`: the product is in the catalog."""

    product_id: str
    available: int
    reserved: int
    committed: int
    listed: bool = True

    def adjusted(self, delta: int) -> Stock:
        """The stock with `delta` more available, or fewer if it is negative. Raises `InsufficientStock`."""
        if self.available + delta < 0:
            raise InsufficientStock([Shortage(self.product_id, -delta, self.available)])
        return replace(self, available=self.available + delta)


@dataclass(frozen=True, slots=True)
class Item:
    """A quantity of a product."""

    product_id: str
    quantity: int


def ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    """`items` by product id: as they are kept, shown and compared."""
    return tuple(sorted(items, key=lambda item: item.product_id))


class State(enum.StrEnum):
    """What became of the stock that an order asked for. UNSEEN: nobody ever asked, and nothing is stored."""

    UNSEEN = "UNSEEN"
    RESERVED = "RESERVED"
    RELEASED = "RELEASED"
    COMMITTED = "COMMITTED"


class Action(enum.Enum):
    """What can be asked for the stock of an order."""

    RESERVE = "reserve"
    RELEASE = "release"
    COMMIT = "commit"


class Move(enum.Enum):
    """Where a step takes items from, and where to: what it adds to (available, reserved, committed) for each."""

    NONE = (0, 0, 0)
    SET_ASIDE = (-1, +1, 0)
    GIVE_BACK = (+1, -1, 0)
    SELL = (0, -1, +1)


class Refusal(enum.Enum):
    """Why a step is refused."""

    NOTHING_RESERVED = "nothing was reserved for it"
    RELEASED = "it was released before"
    COMMITTED = "it was committed before"


# Every step of a reservation goes through this table. RELEASE of an unseen order leaves a tombstone: a reservation that
# was on its way when the order was given up finds it, and takes nothing.
STEPS: Mapping[tuple[State, Action], tuple[State, Move] | Refusal] = {
    (State.UNSEEN, Action.RESERVE): (State.RESERVED, Move.SET_ASIDE),
    (State.UNSEEN, Action.RELEASE): (State.RELEASED, Move.NONE),
    (State.UNSEEN, Action.COMMIT): Refusal.NOTHING_RESERVED,
    (State.RESERVED, Action.RESERVE): (State.RESERVED, Move.NONE),
    (State.RESERVED, Action.RELEASE): (State.RELEASED, Move.GIVE_BACK),
    (State.RESERVED, Action.COMMIT): (State.COMMITTED, Move.SELL),
    (State.RELEASED, Action.RESERVE): Refusal.RELEASED,
    (State.RELEASED, Action.RELEASE): (State.RELEASED, Move.NONE),
    (State.RELEASED, Action.COMMIT): Refusal.RELEASED,
    (State.COMMITTED, Action.RESERVE): Refusal.COMMITTED,
    (State.COMMITTED, Action.RELEASE): Refusal.COMMITTED,
    (State.COMMITTED, Action.COMMIT): (State.COMMITTED, Move.NONE),
}


@dataclass(frozen=True, slots=True)
class Reservation:
    """The stock of one order. Items are `ordered`; there are none if it was released before it reserved any."""

    order_id: str
    state: State
    items: tuple[Item, ...]
    create_time: datetime
    update_time: datetime

    @classmethod
    def unseen(cls, order_id: str, now: datetime) -> Reservation:
        """That of an order which nobody asked anything for yet."""
        return cls(order_id, State.UNSEEN, (), now, now)

    def after(self, action: Action, items: tuple[Item, ...], now: datetime) -> tuple[Reservation, Move]:
        """What `action` makes of it, and how its items are to be moved. `items` are what RESERVE asks for, `ordered`.

        Raises:
            NotFound: COMMIT, and nothing was reserved.
            FailedPrecondition: it was released or committed before.
            InvalidArgument: RESERVE, and it holds other items already.
        """
        match STEPS[self.state, action]:
            case Refusal.NOTHING_RESERVED:
                raise NotFound("reservation", self.order_id)
            case Refusal() as refusal:
                message = f"cannot {action.value} the stock of order {self.order_id!r}: {refusal.value}"
                raise FailedPrecondition("RESERVATION", self.order_id, message)
            case (state, move):
                if state is self.state:
                    if action is Action.RESERVE and items != self.items:
                        raise InvalidArgument.of("items", f"the order {self.order_id!r} holds other items already")
                    return self, move
                held = items if action is Action.RESERVE else self.items
                return replace(self, state=state, items=held, update_time=now), move


def on_sale(stock: Mapping[str, Stock], product_id: str) -> Stock:
    """The stock of a product that is in the catalog. Raises `NotFound` if it is not."""
    found = stock.get(product_id)
    if found is None or not found.listed:
        raise NotFound(KIND, product_id)
    return found


def shortages(items: Iterable[Item], stock: Mapping[str, Stock]) -> list[Shortage]:
    """The products of `items` of which `stock` has too few available. Raises `NotFound` as `on_sale` does."""
    left = [(item, on_sale(stock, item.product_id).available) for item in items]
    return [Shortage(item.product_id, item.quantity, count) for item, count in left if count < item.quantity]
