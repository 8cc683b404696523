"""Reads what a campaign is judged by from the databases of the shop, past all of its code but the names of columns."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import sqlalchemy as sa

from campaigns.checkout.facts import Found, Order, Payment, Reservation, Step, Stock
from campaigns.checkout.judgement import ENDED
from campaigns.checkout.scene import Scene
from campaigns.checkout.streams import waiting_messages
from shop_services.notification import storage as notification
from shop_services.order import storage as order
from shop_services.payment import tables as payment
from shop_services.product import tables as product
from shop_services.runtime.errors import Unavailable
from shop_services.storage import Database

_POLL = 0.5
_SENT = "SENT"
_METADATA = {
    "order": order.metadata,
    "product": product.metadata,
    "payment": payment.metadata,
    "notification": notification.metadata,
}


class Tables:
    """The databases of a shop that runs, or has run."""

    def __init__(self, databases: Mapping[str, Database], nats_url: str) -> None:
        self._databases = databases
        self._nats_url = nats_url

    async def unsettled(self) -> dict[str, int]:
        """What is still under way, by what it is; empty if nothing is."""
        orders, mails = order.orders, notification.mails
        made = await self._count("order", sa.select(orders))
        counts = {
            "orders under way": await self._count("order", sa.select(orders).where(orders.c.status.not_in(ENDED))),
            "orders that owe": await self._count("order", sa.select(orders).where(_OWES)),
            "orders without an e-mail": made - await self._count("notification", sa.select(mails)),
            "e-mails not sent": await self._count("notification", sa.select(mails).where(mails.c.state != _SENT)),
        }
        counts |= {f"messages in {name}": rows for name, rows in (await self._outboxes()).items()}
        counts |= await waiting_messages(self._nats_url)
        return {what: count for what, count in counts.items() if count}

    async def settled(self, seconds: float) -> dict[str, int]:
        """Wait until nothing is under way, for so many seconds at most; returns what still is then."""
        left = {"the databases cannot be read": 1}
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while left:
                    with suppress(Unavailable):
                        left = await self.unsettled()
                    await asyncio.sleep(_POLL if left else 0)
        return left

    async def read(self, arrived: Mapping[str, int]) -> Found:
        """All of it, together with the e-mails that have arrived."""
        stock = await self._rows("product", sa.select(product.stock))
        mails = defaultdict[str, list[bool]](list)
        for row in await self._rows("notification", sa.select(notification.mails)):
            mails[row.order_id].append(row.state == _SENT)
        return Found(
            orders=await self._orders(),
            reservations=await self._reservations(),
            stock={row.product_id: Stock(row.available, row.reserved, row.committed) for row in stock},
            payments=await self._payments(),
            mails=mails,
            arrived=arrived,
            outboxes=await self._outboxes(),
        )

    async def _orders(self) -> list[Order]:
        items, history = defaultdict[str, list[Any]](list), defaultdict[str, list[Step]](list)
        for row in await self._rows("order", sa.select(order.items)):
            items[row.order_id].append(row)
        for row in await self._rows("order", sa.select(order.transitions).order_by(order.transitions.c.version)):
            history[row.order_id].append(Step(row.version, row.status, row.time))
        return [
            Order(
                id=row.id,
                request_id=row.request_id,
                status=row.status,
                version=row.version,
                owes=bool(row.owes_release or row.owes_refund),
                hundredths=sum(item.quantity * item.unit_hundredths for item in items[row.id]),
                card=row.payment_method,
                items={item.product_id: item.quantity for item in items[row.id]},
                history=history[row.id],
            )
            for row in await self._rows("order", sa.select(order.orders))
        ]

    async def _reservations(self) -> dict[str, Reservation]:
        items = defaultdict[str, dict[str, int]](dict)
        for row in await self._rows("product", sa.select(product.reservation_items)):
            items[row.order_id][row.product_id] = row.quantity
        found = await self._rows("product", sa.select(product.reservations))
        return {row.order_id: Reservation(row.state, items[row.order_id]) for row in found}

    async def _payments(self) -> dict[str, Payment]:
        entries = defaultdict[str, list[Any]](list)
        for row in await self._rows("payment", sa.select(payment.ledger).order_by(payment.ledger.c.number)):
            entries[row.key].append(row)
        return {
            key: Payment(rows[-1].state, [row.hundredths for row in rows if row.hundredths])
            for key, rows in entries.items()
        }

    async def _outboxes(self) -> dict[str, int]:
        tables = [
            (service, table)
            for service, metadata in _METADATA.items()
            for table in metadata.tables.values()
            if "outbox" in table.name
        ]
        return {table.name: await self._count(service, sa.select(table)) for service, table in tables}

    async def _count(self, service: str, query: sa.Select[Any]) -> int:
        rows = await self._rows(service, sa.select(sa.func.count()).select_from(query.subquery()))
        return int(rows[0][0])

    async def _rows(self, service: str, query: sa.Select[Any]) -> list[Any]:
        async with self._databases[service].reading() as connection:
            return list(await connection.execute(query))


@asynccontextmanager
async def open_tables(scene: Scene) -> AsyncIterator[Tables]:
    """The tables of a shop."""
    settings = scene.settings
    async with AsyncExitStack() as stack:
        yield Tables(
            {
                service: await stack.enter_async_context(
                    Database(settings.database(service), service="campaign", pool=1, statement_timeout=60)
                )
                for service in _METADATA
            },
            settings.nats_url,
        )


_OWES = sa.or_(order.orders.c.owes_release, order.orders.c.owes_refund)
