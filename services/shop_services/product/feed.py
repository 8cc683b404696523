"""The changes of the catalog as they happen, whichever process makes them.

Every change is a row of a log, numbered without gaps in the order of commits (see `storage.py`). A watcher is a place
in that log, so it misses nothing, repeats nothing, needs no queue, and goes on at another instance after a break. One
task per process looks for new rows: at once after a change of this process, else every 200 ms, and not at all while
nobody watches. It keeps the latest changes in memory, so that a thousand watchers who are up to date cost the database
no more than one; a watcher that lags behind them reads the log itself, and one that lags behind the log too is told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Protocol

import structlog

from shop_services.product.domain import Change
from shop_services.runtime.errors import OutOfRange, ResourceExhausted, Unavailable

_logger = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
"""How long a change made by another process may go unnoticed."""
TAIL = 256
"""How many changes are kept in memory, and how many are read at a time."""
MAX_WATCHERS = 1000
"""How many watchers a process has at most."""

_CLOSE_SECONDS = 5.0


class ChangeLog(Protocol):
    """Where changes are written down, numbered from 1 without gaps. Old ones may be dropped, the latest one never."""

    async def latest(self) -> int:
        """The number of the latest change; 0 if there was none yet."""

    async def after(self, revision: int, limit: int) -> Sequence[Change]:
        """The first `limit` changes of those after `revision` that are kept, in order."""


class Tail:
    """The latest changes, without gaps, up to and including `end`."""

    def __init__(self, end: int, size: int) -> None:
        self.end = end
        self._changes: deque[Change] = deque(maxlen=size)

    def __repr__(self) -> str:
        return f"<Tail of {len(self._changes)} to {self.end}>"

    def extend(self, changes: Sequence[Change]) -> None:
        """Add changes that come after `end`. If some are missing between, what was here before is forgotten."""
        if changes[0].revision != self.end + 1:
            self._changes.clear()
        self._changes.extend(changes)
        self.end = changes[-1].revision

    def after(self, revision: int) -> Sequence[Change] | None:
        """All changes after `revision`, which may be none yet; None if some of them are no longer here."""
        first = self.end - len(self._changes) + 1
        if revision + 1 < first:
            return None
        return tuple(islice(self._changes, revision + 1 - first, None))


class ChangeFeed:
    """Lets any number of watchers follow a `ChangeLog`. Call `close` before the log goes away."""

    def __init__(
        self, log: ChangeLog, *, poll_seconds: float = POLL_SECONDS, tail: int = TAIL, most: int = MAX_WATCHERS
    ) -> None:
        self._log = log
        self._poll_seconds = poll_seconds
        self._size = tail
        self._most = most
        self._tail = Tail(0, tail)
        self._watchers = 0
        self._poller: asyncio.Task[None] | None = None
        self._look = asyncio.Event()  # the poller has reason to look at once
        self._news = asyncio.Event()  # watchers have reason to look; set once, then replaced
        self._failure: Exception | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<ChangeFeed {self._watchers} watchers, {'polling' if self._poller else 'idle'}, {self._tail!r}>"

    @asynccontextmanager
    async def watch(self, after: int = 0) -> AsyncIterator[Watcher]:
        """Follow the changes after the revision `after`; 0 stands for the latest one there is.

        Raises:
            OutOfRange: `after` lies in the future: it was not this catalog, or not this state of it.
            ResourceExhausted: there are too many watchers.
            Unavailable: the feed is closed.
        """
        self._check_open()
        latest = await self._log.latest()
        if after > latest:
            raise OutOfRange(
                f"there is no revision {after} yet; the latest change has {latest}", reason="NO_SUCH_REVISION"
            )
        if self._watchers >= self._most:
            raise ResourceExhausted("watchers", f"{self._most:,} callers watch the catalog here; try another instance")
        self._watchers += 1
        try:
            self._ensure_polling(latest)
            yield Watcher(self, after or latest)
        finally:
            self._watchers -= 1
            self._look.set()  # the poller ends when it sees that it was the last one

    def notice(self) -> None:
        """Look at once: this process has just committed a change."""
        self._look.set()

    async def close(self) -> None:
        """End every watcher with `Unavailable`, and the polling; a look that takes more than 5 s is cancelled."""
        self._closed = True
        self._announce()
        self._look.set()
        if self._poller is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._poller

    async def read(self, revision: int) -> Sequence[Change]:
        """The next changes after `revision`, at least one: waits for it.

        Raises:
            OutOfRange: the changes that follow it are no longer kept.
            Unavailable: the feed is closed, or the log cannot be read. Another instance can go on from `revision`.
        """
        while True:
            self._check_open()
            if self._failure is not None:
                raise Unavailable("the changes of the catalog cannot be read at the moment") from self._failure
            news = self._news
            changes = self._tail.after(revision)
            if changes is None:
                changes = await self._log.after(revision, self._size)
                if changes and changes[0].revision != revision + 1:
                    raise OutOfRange(
                        f"the changes after {revision} are no longer kept, the oldest is {changes[0].revision}: "
                        "list the products and watch from there",
                        reason="REVISION_TOO_OLD",
                    )
            if changes:
                return changes
            await news.wait()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("this instance is stopping: watch at another one, after the last revision seen")

    def _ensure_polling(self, latest: int) -> None:
        if self._poller is None:
            self._failure = None
            self._tail = Tail(latest, self._size)
            self._poller = asyncio.create_task(self._poll(), name="catalog-changes")

    async def _poll(self) -> None:
        try:
            while self._watchers and not self._closed:
                self._look.clear()  # before reading: what is committed from now on sets it again
                if changes := await self._log.after(self._tail.end, self._size):
                    self._tail.extend(changes)
                    self._announce()
                if len(changes) < self._size:
                    await self._pause()
        except Exception as error:  # whatever it was, the watchers have to go on elsewhere
            _logger.warning("catalog_changes_unreadable", exc_info=error)
            self._failure = error
            self._announce()
        finally:
            self._poller = None

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._look.wait()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Watcher:
    """A place in the log: `revision` is the last change that was read, or the one to begin after."""

    def __init__(self, feed: ChangeFeed, revision: int) -> None:
        self._feed = feed
        self.revision = revision

    async def read(self) -> Sequence[Change]:
        """The next changes, at least one: waits for it. Raises as `ChangeFeed.read` does."""
        changes = await self._feed.read(self.revision)
        self.revision = changes[-1].revision
        return changes
