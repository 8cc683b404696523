"""`Stock` in memory, on the table of steps of the real one; it keeps the same contract as that by RPC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from shop_services.order.domain import Line
from shop_services.order.upstream import StockRefused
from shop_services.product.errors import InsufficientStock
from shop_services.product.inventory_domain import Action, Item, Move, Reservation, State, Stock, ordered, shortages
from shop_services.runtime.errors import DomainError, Unavailable

_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class FakeStock:
    """The stock of `products`. While it is `away` nothing is done; the next `silent` calls work and tell nobody."""

    def __init__(self, **products: int) -> None:
        self.stock = {name: Stock(name, count, 0, 0) for name, count in products.items()}
        self.reservations: dict[str, Reservation] = {}
        self.calls: list[tuple[str, str]] = []
        self.away = False
        self.silent = 0

    async def reserve(self, order_id: str, lines: Sequence[Line]) -> None:
        self._step(order_id, Action.RESERVE, [Item(line.product_id, line.quantity) for line in lines])

    async def commit(self, order_id: str) -> None:
        self._step(order_id, Action.COMMIT)

    async def release(self, order_id: str) -> None:
        self._step(order_id, Action.RELEASE)

    def state(self, order_id: str) -> State:
        """What became of an order's stock."""
        return self.reservations[order_id].state if order_id in self.reservations else State.UNSEEN

    def _step(self, order_id: str, action: Action, items: Sequence[Item] = ()) -> None:
        self.calls.append((action.value, order_id))
        if self.away:
            raise Unavailable("the stock cannot be asked")
        before = self.reservations.get(order_id) or Reservation.unseen(order_id, _LONG_AGO)
        try:
            after, move = before.after(action, ordered(items), _LONG_AGO)
            if move is Move.SET_ASIDE and (short := shortages(after.items, self.stock)):
                raise InsufficientStock(short)
        except DomainError as error:
            raise StockRefused(error.message) from error
        self.reservations[order_id] = after
        for item in after.items:
            self._move(item, move)
        if self.silent:
            self.silent -= 1
            raise Unavailable("the stock cannot be asked")

    def _move(self, item: Item, move: Move) -> None:
        old = self.stock[item.product_id]
        available, reserved, committed = (step * item.quantity for step in move.value)
        moved = (old.available + available, old.reserved + reserved, old.committed + committed)
        self.stock[item.product_id] = Stock(item.product_id, *moved)
