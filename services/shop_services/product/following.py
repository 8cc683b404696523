"""Following the log of changes, so that each process knows soon what any of them changed.

The database is all that the instances must share, so that is where changes are found: by one cheap query ten times a
second, and at once when there is a hint that something changed. Hints may be lost without harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol

import structlog

from shop_services.product.recent import RecentChanges, Touched

_log = structlog.get_logger(__name__)

INTERVAL = 0.1
"""Seconds between two looks at most; a quarter of the bound of staleness if that is less."""
BREATH = 0.02
"""Seconds between two looks at least, however many hints there are."""
BATCH = 1000
"""How many changes one look reads."""
PATIENCE = 5.0
"""Seconds that a look may take."""
MOMENT = 0.05
"""Seconds that a reader waits at most for looks to find a change that it knows of: two or three of them."""

_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """The first changes after some place of the log, in order, and the number of the latest: of one moment."""

    revision: int
    found: Sequence[Touched]


class TouchedLog(Protocol):
    """The log of changes, as far as it says what they touched."""

    async def touched(self, after: int, limit: int) -> Look:
        """The first `limit` changes of those after the change `after` that are kept."""


class Follower:
    """Keeps `RecentChanges` up to date with the log, while `following`.

    After each look that found something, and when looks begin to fail, it calls what `tell` named.
    """

    def __init__(
        self,
        log: TouchedLog,
        recent: RecentChanges,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
    ) -> None:
        self._log = log
        self._recent = recent
        self._clock = clock
        self._moved: Callable[[], None] | None = None
        self._interval = interval
        self._hint = asyncio.Event()
        self._looked = asyncio.Event()  # set after a look, then replaced
        self._looked_once = asyncio.Event()  # set after the first, however that went
        self._closed = False
        self._failing = False

    def __repr__(self) -> str:
        return f"<Follower of {self._recent!r}{', failing' if self._failing else ''}>"

    def notice(self) -> None:
        """Look at once: something may have changed."""
        self._hint.set()

    async def reach(self, revision: int) -> bool:
        """Look at once, and wait a moment, 50 ms at most, until all changes up to `revision` are known: are they?"""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                while self._recent.head < revision:
                    self.notice()
                    await self._looked.wait()
        return self._recent.head >= revision

    def tell(self, moved: Callable[[], None]) -> None:
        """Call `moved` when the log has moved on, whoever wrote it, and when it can no longer be read."""
        self._moved = moved

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Look again and again inside of the block, and once before it, for 5 s at most.

        So whoever begins to serve in the block has copies that can be used, if the database answers. A look on its way
        in the end has 5 s to come to its own.
        """
        # In a context of its own: its log lines belong to no call.
        task = asyncio.create_task(self._follow(), name="catalog-follower", context=Context())
        try:
            await self._looked_once.wait()
            yield
        finally:
            self._closed = True
            self._hint.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await task

    async def _follow(self) -> None:
        while not self._closed:
            self._hint.clear()  # before looking: what is committed from now on sets it again
            began = self._clock()
            complete = await self._look(began)
            self._looked_once.set()
            if complete:
                await self._pause()

    async def _look(self, began: float) -> bool:
        """Look once. False if there is more to be seen at once."""
        after, seen = self._recent.head, self._recent.ceiling
        try:
            async with asyncio.timeout(PATIENCE):
                look = await self._log.touched(after, BATCH)
            if look.revision < (was := max(after, seen)):
                _log.warning("catalog_went_back", was=was, now=look.revision)
            complete = self._recent.looked(began, after, look.revision, look.found, seen)
        except Exception as error:  # whatever it is, it must not end the only task that looks
            if not self._failing:
                _log.warning("catalog_changes_unreadable", error=repr(error))
            self._failing, news = True, not self._failing
            self._tell(news)
            return True
        if self._failing:
            _log.info("catalog_changes_readable")
        self._failing = False
        self._looked.set()
        self._looked = asyncio.Event()
        self._tell(bool(look.found))
        return complete

    def _tell(self, news: bool) -> None:
        if news and self._moved is not None:
            try:
                self._moved()
            except Exception as error:  # likewise
                _log.error("catalog_follower_callback_failed", exc_info=error)

    async def _pause(self) -> None:
        await asyncio.sleep(BREATH)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval - BREATH):
                await self._hint.wait()
