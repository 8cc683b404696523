"""What can be done with stock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.product import inventory_storage as storage
from shop_services.product.errors import InsufficientStock
from shop_services.product.inventory_domain import Action, Item, Move, Reservation, Stock, on_sale, ordered, shortages
from shop_services.runtime.times import Clock
from shop_services.storage import Database, Mutation

R = TypeVar("R", bound=Message)


class Inventory:
    """The stock of the shop."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve(self, order_id: str, items: Iterable[Item]) -> Reservation:
        """Set stock aside for an order, all of it or none.

        Raises:
            NotFound: a product is not in the catalog.
            InsufficientStock: there is too little of one or several.
            FailedPrecondition: the order's stock was released or committed before.
            InvalidArgument: it holds other items already.
        """
        return await self._step(order_id, Action.RESERVE, ordered(items))

    async def release(self, order_id: str) -> Reservation:
        """Give an order's stock back, or keep a late reservation out.

        Raises:
            FailedPrecondition: it was committed.
        """
        return await self._step(order_id, Action.RELEASE)

    async def commit(self, order_id: str) -> Reservation:
        """Turn an order's stock into sold stock.

        Raises:
            NotFound: nothing was reserved.
            FailedPrecondition: it was released.
        """
        return await self._step(order_id, Action.COMMIT)

    async def get(self, product_id: str) -> Stock:
        """The stock of a product. Raises `NotFound`."""
        async with self._database.reading() as connection:
            return await storage.get(connection, product_id)

    async def adjust(self, product_id: str, delta: int, mutation: Mutation[Stock, R]) -> R:
        """Add to what is available of a product, or take from it if `delta` is negative.

        Raises:
            NotFound: it is not in the catalog.
            InsufficientStock: less than none would be left.
        """

        async def work(connection: AsyncConnection) -> Stock:
            after = on_sale(await storage.lock(connection, [product_id]), product_id).adjusted(delta)
            await storage.set_available(connection, after)
            return after

        return await mutation.commit(work)

    async def _step(self, order_id: str, action: Action, items: tuple[Item, ...] = ()) -> Reservation:
        async def work(connection: AsyncConnection) -> Reservation:
            now = self._clock()
            before = await storage.lock_reservation(connection, order_id)
            after, move = (before or Reservation.unseen(order_id, now)).after(action, items, now)
            if before is None:
                await storage.insert_reservation(connection, after)
            elif after.state is not before.state:
                await storage.update_reservation(connection, after)
            if move is not Move.NONE:
                stock = await storage.lock(connection, [item.product_id for item in after.items])
                if move is Move.SET_ASIDE and (short := shortages(after.items, stock)):
                    raise InsufficientStock(short)
                await storage.move(connection, after.items, move)
            return after

        return await self._database.atomically(work)
