"""The work behind reads that find no copy in this process: one task for all who wait for the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from functools import partial
from itertools import islice
from typing import Generic

import structlog

from shop_services.caching.copies import Copy, V
from shop_services.caching.flights import Flight, Flights
from shop_services.caching.lifetimes import Lifetimes
from shop_services.caching.local_copies import LocalCopies
from shop_services.caching.shared_copies import SharedCopies
from shop_services.caching.tiers import ReadCounts
from shop_services.caching.turns import Turns
from shop_services.runtime.errors import Unavailable

LoadMany = Callable[[Sequence[str]], Awaitable[Mapping[str, Copy[V]]]]
"""Asks the source for these keys, and answers for every one of them."""

REFRESHING = 64
"""So many keys are refreshed early at a time."""
SHARING = 256
"""So many loads at a time wait for the shared cache to take what they brought. What more bring is not shared."""

_STOP = 5.0  # seconds for the tasks to end, which are cancelled

_log = structlog.get_logger(__name__)


class Fetching(Generic[V]):
    """The flights of one `ReadThrough`, the early refreshes, and the tasks of both."""

    def __init__(
        self,
        name: str,
        *,
        local: LocalCopies[V],
        shared: SharedCopies[V] | None,
        turns: Turns[V],
        lifetimes: Lifetimes,
        is_current: Callable[[str, int], bool],
        load_timeout: float,
        counts: ReadCounts,
    ) -> None:
        self._name = name
        self._local = local
        self._shared = shared
        self._turns = turns
        self._lifetimes = lifetimes
        self._is_current = is_current
        self._load_timeout = load_timeout
        self._counts = counts
        self._flights: Flights[V] = Flights()
        self._refreshing: dict[str, Copy[V]] = {}  # keys, and the copies that newer ones are looked for
        self._sharing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def __repr__(self) -> str:
        return f"{len(self._flights)} in flight, {len(self._refreshing)} being refreshed"

    def board(self, keys: Sequence[str], load: LoadMany[V]) -> tuple[dict[str, Flight[V]], dict[str, Flight[V]]]:
        """The flights of these keys: those that were under way, and those that begin now.

        Raises:
            Unavailable: `stop` was called, so nobody would own them.
        """
        if self._stopped and keys:
            raise self._over()
        joined = {key: flight for key in keys if (flight := self._flights.get(key)) is not None}
        self._counts.waits += len(joined)
        begun = self._flights.begin(key for key in keys if key not in joined)
        if begun:
            self._own(self._fetch(begun, load), begun)
        return joined, begun

    def refresh(self, due: Mapping[str, Copy[V]], load: LoadMany[V]) -> None:
        """Begin to look for newer copies than these, which do until then; not if somebody is at it, or too many are."""
        left = ((key, copy) for key, copy in due.items() if key not in self._refreshing and key not in self._flights)
        due = dict(islice(left, REFRESHING - len(self._refreshing)))
        if due and not self._stopped:
            self._counts.refreshes += len(due)
            self._refreshing |= due
            for key, copy in due.items():
                self._local.keep(key, self._lifetimes.postponed(copy))
            flights: dict[str, Flight[V]] = {}
            self._own(self._renew(due, flights, load), flights)

    def cut(self, key: str) -> None:
        """What is on its way may be older than what is known by now: nobody joins it any more, and nobody keeps it."""
        self._flights.cut(key)
        self._refreshing.pop(key, None)

    async def stop(self) -> None:
        """Cancel the tasks. Who still waits gets `Unavailable`, and who comes later."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP)

    async def _fetch(self, flights: dict[str, Flight[V]], load: LoadMany[V]) -> None:
        """Land these flights, from the shared cache or from the source."""
        async with self._turns.waited(list(flights)) as found:
            for key, copy in found.items():
                if self._flights.land(flights[key], copy):
                    self._local.keep(key, copy)
            if len(found) < len(flights):
                await self._load({key: flight for key, flight in flights.items() if key not in found}, load)

    async def _renew(self, due: dict[str, Copy[V]], flights: dict[str, Flight[V]], load: LoadMany[V]) -> None:
        """Put newer copies in the place of these. `flights` gets those that this begins."""
        try:
            async with self._turns.unhurried(list(due)) as (newer, ours):
                wanted = [key for key, copy in due.items() if self._refreshing.get(key) is copy]  # not cut meanwhile
                for key in newer.keys() & wanted:
                    self._local.keep(key, newer[key])
                if ours:
                    flights |= self._flights.begin(
                        key for key in wanted if key not in newer and key not in self._flights
                    )
                if flights:
                    await self._load(flights, load)
        finally:
            for key, copy in due.items():
                if self._refreshing.get(key) is copy:
                    del self._refreshing[key]

    async def _load(self, flights: Mapping[str, Flight[V]], load: LoadMany[V]) -> None:
        """Land these flights from the source, and store what they bring."""
        try:
            loaded = await self._ask(list(flights), load)
        except Exception as error:  # is for those who wait
            self._counts.load_errors += 1
            for flight in flights.values():
                self._flights.fail(flight, error)
            return
        kept = {}
        for key, flight in flights.items():
            copy = self._lifetimes.loaded(loaded[key])
            if self._flights.land(flight, copy) and self._is_current(key, copy.as_of):
                self._local.keep(key, copy)
                kept[key] = copy
        await self._share(kept)

    async def _ask(self, keys: Sequence[str], load: LoadMany[V]) -> Mapping[str, Copy[V]]:
        self._counts.loads += 1
        limit = asyncio.timeout(self._load_timeout)
        try:
            async with limit:
                loaded = await load(keys)
        except TimeoutError:
            if limit.expired():
                raise Unavailable(f"{self._name}: the source took more than {self._load_timeout:g} s") from None
            raise
        if left_out := [key for key in keys if key not in loaded]:
            raise LookupError(f"{self._name}: a load of {len(keys)} keys did not answer for {left_out[0]!r}")
        return loaded

    async def _share(self, copies: Mapping[str, Copy[V]]) -> None:
        if self._shared is None or not copies:
            return
        if self._sharing >= SHARING:
            self._counts.shared.skipped += 1
            return
        self._sharing += 1
        try:
            await self._shared.store(copies)
        finally:
            self._sharing -= 1

    def _own(self, work: Coroutine[None, None, None], flights: Mapping[str, Flight[V]]) -> None:
        """Do this in a task, after which none of these flights is left in the air.

        The task has a context of its own: its work is for all who wait, and not within the deadline of who came first.
        """
        task = asyncio.create_task(work, name=f"read {self._name}", context=Context())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, flights))

    def _ended(self, flights: Mapping[str, Flight[V]], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("reading_failed", name=self._name, exc_info=error)
        for flight in flights.values():
            self._flights.fail(flight, error or self._over())

    def _over(self) -> Unavailable:
        return Unavailable(f"{self._name}: reading has ended")
