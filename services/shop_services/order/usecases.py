"""What can be done with orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.order import storage
from shop_services.order.domain import DEFAULT_PAYMENT_METHOD, KIND, Item, Line, Order, priced
from shop_services.order.progress import Moved, Progress
from shop_services.order.saga import Status
from shop_services.order.upstream import Catalog, Stock, StockRefused, Users
from shop_services.order.watch import Watches
from shop_services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from shop_services.runtime.etags import check_etag
from shop_services.runtime.ids import NewId
from shop_services.runtime.paging import Page, make_page, read_token
from shop_services.runtime.times import Clock
from shop_services.storage import Database, Mutation

R = TypeVar("R", bound=Message)


class Orders:
    """The orders of the shop. `new_id` must give ids that grow with time: they are what newest first means."""

    def __init__(
        self,
        database: Database,
        users: Users,
        catalog: Catalog,
        stock: Stock,
        progress: Progress,
        watches: Watches,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._users = users
        self._catalog = catalog
        self._stock = stock
        self._progress = progress
        self._watches = watches
        self._clock = clock
        self._new_id = new_id

    async def create(self, request_id: str, user_id: str, lines: Sequence[Line], payment_method: str = "") -> Order:
        """Record an order, once for each `request_id` for ever; repeated, it is returned as it was recorded.

        Raises:
            InvalidArgument: a product does not exist, the prices are in several currencies, or the request id was used
                for another order.
            FailedPrecondition: the user does not exist.
            Unavailable: users, products or the database cannot be asked.
        """
        asked = (user_id, tuple(lines), payment_method or DEFAULT_PAYMENT_METHOD)
        if (recorded := await self._recorded(request_id, asked)) is not None:
            return recorded
        items = await self._checked(user_id, lines)
        order = Order.recorded(self._new_id(), user_id, items, self._clock(), payment_method)
        try:
            recording = partial(self._progress.record, order=order, request_id=request_id)
            self._progress.tell(await self._database.atomically(recording))
        except storage.RequestIdTakenError:  # by the same request, while this one asked for prices
            if (recorded := await self._recorded(request_id, asked)) is None:
                raise
            return recorded
        return order

    async def get(self, order_id: str, owner: str | None = None) -> Order:
        """One order. Raises `NotFound`, also if it is not of the user `owner`, where one is given."""
        async with self._database.reading() as connection:
            order = await storage.get(connection, order_id)
        if owner is not None and order.user_id != owner:
            raise NotFound(KIND, order_id)  # to the word what is said of an order that does not exist
        return order

    async def page(self, user_id: str, status: Status | None, size: int, token: str) -> Page[Order]:
        """Orders of the user and the status, if given, newest first. Raises `InvalidArgument` for a broken `token`."""
        query = {"list": "orders", "user_id": user_id, "status": status or ""}
        cursor = read_token(token, query, (str,))
        before = None if cursor is None else str(cursor[0])
        async with self._database.snapshot() as connection:
            found = await storage.page(connection, user_id, status, before, size + 1)
        return make_page(found, size, query, lambda order: (order.id,), lambda order: order.weight)

    async def cancel(
        self, order_id: str, reason: str, etag: str, mutation: Mutation[Moved, R], owner: str | None = None
    ) -> R:
        """Call an order off. Its compensations follow.

        An order that was cancelled before is refused like any other that has ended: only the same `request_id` makes
        the call a repetition, and so returns the first answer.

        Raises:
            NotFound: there is no such order, or it is not of the user `owner`, where one is given.
            Aborted: `etag` is of another state.
            FailedPrecondition: it has ended, or its stock is sold already.
            Unavailable: the order is PAID, and its stock cannot be asked.
        """
        if owner is not None:
            await self.get(order_id, owner)  # first of all: a kept reply tells of the order, too
        released = False

        async def work(connection: AsyncConnection) -> Moved:
            order = await storage.get(connection, order_id)
            check_etag(etag, KIND, order_id, order.version)
            if order.status is Status.PAID and not released:
                raise _StockFirst(order)
            return await self._progress.cancelled(connection, order, reason)

        def committed(moved: Moved) -> None:
            self._progress.tell(moved)
            self._watches.look()

        try:
            return await mutation.commit(work, committed)
        except _StockFirst as paid:
            # Its stock may be sold at this moment. The reservation decides: who comes first to it.
            try:
                await self._stock.release(order_id)
            except StockRefused:
                raise paid.order.refusal(f"is {paid.order.status}: it has gone too far to be cancelled") from None
            released = True
            return await mutation.commit(work, committed)

    async def watch(self, order_id: str, owner: str | None = None) -> AsyncGenerator[Order, None]:
        """The order as it is now, then after each change, until it has ended.

        Raises:
            NotFound: there is no such order, or it is not of the user `owner`, where one is given.
            ResourceExhausted, Unavailable: as `Watches.follow` does.
        """
        order = await self.get(order_id, owner)
        async with aclosing(self._watches.follow(order)) as states:
            async for state in states:
                yield state

    async def _recorded(self, request_id: str, asked: tuple[str, tuple[Line, ...], str]) -> Order | None:
        async with self._database.reading() as connection:
            order = await storage.find_request(connection, request_id)
        if order is None:
            return None
        if (order.user_id, order.lines, order.payment_method) != asked:
            raise InvalidArgument.of("request_id", "was used before, for another order")
        return order.at(1)

    async def _checked(self, user_id: str, lines: Sequence[Line]) -> tuple[Item, ...]:
        try:
            async with asyncio.TaskGroup() as both:
                exists = both.create_task(self._users.exists(user_id))
                products = both.create_task(self._catalog.products([line.product_id for line in lines]))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        items = priced(lines, products.result())
        if not exists.result():
            raise FailedPrecondition("USER", f"user/{user_id}", f"there is no user {user_id!r}", reason="NO_SUCH_USER")
        return items


class _StockFirst(Exception):
    """The order is PAID: its stock must be released before it can be cancelled."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order
