"""Who is watching which order, and one task that asks the database for all of them together what has changed.

The database is all that the instances share, so that is where a change made by another one is found. A change made by
this instance is found the same way, only at once; so is one that is announced by another. While nobody watches there is
no task, and no query.

A watcher is told every version of its order, one by one, however far it has fallen behind: the newest order has the
whole history in it, and every earlier version follows from that. So nothing is queued, for slow watchers neither.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from shop_services.order.domain import Order
from shop_services.runtime.errors import ResourceExhausted, Unavailable

_log = structlog.get_logger(__name__)

INTERVAL = 0.2
"""Seconds between two queries."""
MAX_WATCHERS = 1000
"""How many watchers an instance has at most: as many ids as one query may ask for."""
PATIENCE = 10.0
"""Seconds that the database may be away before the watchers are told."""

_DRAINING = "this instance is draining; watch again"


class ChangedOrders(Protocol):
    """Where changes are found."""

    async def newer(self, versions: Mapping[str, int]) -> Sequence[Order]:
        """Those of the orders in `versions` that have a greater version by now, with their history."""


@dataclass(slots=True, eq=False)
class _Watched:
    newest: Order
    watchers: int = 0
    failure: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wake everyone who waits; who waits after this waits for the next change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Watches:
    """All watchers of this process."""

    def __init__(
        self,
        orders: ChangedOrders,
        *,
        interval: float = INTERVAL,
        patience: float = PATIENCE,
        max_watchers: int = MAX_WATCHERS,
    ) -> None:
        self._orders = orders
        self._interval = interval
        self._patience = patience
        self._max_watchers = max_watchers
        self._watched: dict[str, _Watched] = {}
        self._watchers = 0
        self._look = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "polling" if self._watched else "idle"
        return f"<Watches {state}: {self._watchers} watchers of {len(self._watched)} orders>"

    async def follow(self, order: Order) -> AsyncGenerator[Order, None]:
        """Yield `order`, then each later version of it in turn, until one that is final.

        Raises:
            ResourceExhausted: there are too many watchers.
            Unavailable: the database is away for too long, or this instance is draining; watch again elsewhere.
        """
        watched = self._join(order)
        try:
            yield order
            while not order.status.final:
                while watched.newest.version <= order.version:
                    if watched.failure:
                        raise Unavailable(watched.failure)
                    await watched.changed.wait()
                for version in range(order.version + 1, watched.newest.version + 1):
                    order = watched.newest.at(version)
                    yield order
        finally:
            self._leave(watched)

    def look(self) -> None:
        """Ask the database now: this process has changed an order."""
        self._look.set()

    def changed(self, order_id: str) -> None:
        """The same if anybody here watches that order: another process has announced that it changed it."""
        if order_id in self._watched:
            self.look()

    async def close(self) -> None:
        """End all watches, as draining does. Idempotent."""
        self._closed = True
        self._fail(_DRAINING)
        if self._poller is not None:
            await self._poller

    def _join(self, order: Order) -> _Watched:
        if self._closed:
            raise Unavailable(_DRAINING)
        if self._watchers >= self._max_watchers:
            raise ResourceExhausted("watches", f"{self._max_watchers:,} orders are being watched here; try again")
        watched = self._watched.setdefault(order.id, _Watched(order))
        if watched.newest.version < order.version:
            watched.newest = order
            watched.tell()
        watched.watchers += 1
        self._watchers += 1
        if self._poller is None or self._poller.done():
            # In a context of its own: its log lines belong to no call, least of all to the one that came first.
            self._poller = asyncio.create_task(self._poll(), name="order watches", context=Context())
        return watched

    def _leave(self, watched: _Watched) -> None:
        watched.watchers -= 1
        self._watchers -= 1
        if not watched.watchers and self._watched.get(watched.newest.id) is watched:
            del self._watched[watched.newest.id]
        if not self._watched:
            self._look.set()  # the task ends at once, not at its next turn

    def _fail(self, why: str) -> None:
        for watched in self._watched.values():
            watched.failure = why
            watched.tell()
        self._watched.clear()
        self._look.set()

    async def _poll(self) -> None:
        clock = asyncio.get_running_loop().time
        answered, failing = clock(), False
        while await self._wait():
            try:
                async with asyncio.timeout(self._patience):
                    changed = await self._orders.newer({name: w.newest.version for name, w in self._watched.items()})
            except Exception as error:  # whatever it is, it must not end the only task that looks
                if not failing:
                    _log.warning("order_watch_failed", error=repr(error), watchers=self._watchers)
                failing = True
                if clock() - answered >= self._patience:
                    self._fail("the orders' database does not answer; watch again")
                continue
            answered, failing = clock(), False
            for order in changed:
                watched = self._watched.get(order.id)
                if watched is not None and watched.newest.version < order.version:
                    watched.newest = order
                    watched.tell()

    async def _wait(self) -> bool:
        """Until it is time to look. False if there is nobody to look for."""
        if self._watched:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._look.wait()
            self._look.clear()
        return bool(self._watched)
