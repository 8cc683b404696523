"""Mode `behind` put together: the log of pending changes, who follows it, who writes what is in it, who shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from random import Random

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.messaging.compacted import CompactedLog, Follower, StartOver
from shop_services.product import pending_storage
from shop_services.product.behind import BehindChanges
from shop_services.product.domain import Change
from shop_services.product.drainer import Drainer, Write
from shop_services.product.overlaid import OverlaidReads
from shop_services.product.overlay import Overlay
from shop_services.product.pending import Pending
from shop_services.product.pending_messages import Written
from shop_services.product.pending_storage import Result
from shop_services.product.reads import CatalogChanges, CatalogReads
from shop_services.product.recent import RecentChanges, Touched
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.times import Clock
from shop_services.storage import Database, Replies

CATCH_UP = 10.0
"""Seconds that a start waits for the log to be read."""
_AFTER_DEFECT = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Behind:
    """The catalog in mode `behind`."""

    reads: CatalogReads
    changes: CatalogChanges
    overlay: Overlay


@asynccontextmanager
async def writing_behind(
    log: CompactedLog,
    database: Database,
    replies: Replies,
    recent: RecentChanges,
    *,
    reads: CatalogReads,
    changes: CatalogChanges,
    changed: Callable[[Change], None],
    bound: float,
    clock: Clock,
    rng: Random,
    keep: int,
) -> AsyncIterator[Behind]:
    """The catalog of `reads` and `changes`, whose updates and deletions go to `log` first, inside of the block.

    `changed` is called with what is written to `database`, which keeps the latest `keep` changes. What is shown is at
    most `bound` seconds old.

    Raises:
        Unavailable: the log could not be read within ten seconds.
    """
    overlay = Overlay(telling(recent))
    drainer = Drainer(overlay, log, writing(database, replies, keep), changed, rng)
    behind = BehindChanges(changes, database, overlay, log, recent.require, clock, rng)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(following(log, overlay))
        try:
            async with asyncio.timeout(CATCH_UP):
                while overlay.as_of == float("-inf"):
                    await overlay.moved()
        except TimeoutError:
            raise Unavailable("NATS_URL: the log of pending changes cannot be read") from None
        await stack.enter_async_context(drainer.running())
        yield Behind(OverlaidReads(reads, overlay, bound), behind, overlay)


def telling(recent: RecentChanges) -> Callable[[str, Written], None]:
    """What tells `recent` of a pending change that was written, so that no older copy is shown in its place."""

    def settled(product_id: str, note: Written) -> None:
        if note.categories is None:
            recent.require(note.number)
        else:
            recent.told(Touched(note.number, product_id, note.categories))

    return settled


def writing(database: Database, replies: Replies, keep: int) -> Write:
    """What writes pending states to `database`."""

    async def write(states: Sequence[Pending]) -> Sequence[Result]:
        async def work(connection: AsyncConnection) -> Sequence[Result]:
            return await pending_storage.write(connection, states, replies, keep)

        return await database.atomically(work)

    return write


@asynccontextmanager
async def following(log: CompactedLog, overlay: Overlay) -> AsyncIterator[None]:
    """Keep `overlay` up to date with `log` inside of the block."""
    # In a context of its own: its log lines belong to no call.
    task = asyncio.create_task(_follow(log, overlay), name="catalog-pending", context=Context())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _follow(log: CompactedLog, overlay: Overlay) -> None:
    follower = log.follow()
    failing = False
    while True:
        try:
            await _read(follower, overlay)
        except Exception as error:  # a defect: whatever it is, it must not end the only task that follows
            if not failing:
                _log.error("pending_changes_unfollowed", exc_info=error)
            failing = True
            await asyncio.sleep(_AFTER_DEFECT)
            follower = log.follow()
            overlay.start_over(lost=False)
        else:
            if failing and overlay.as_of > float("-inf"):  # past the record that it failed at
                _log.info("pending_changes_followed")
                failing = False


async def _read(follower: Follower, overlay: Overlay) -> None:
    try:
        news = await follower.read()
    except StartOver as error:
        _log.warning("pending_changes_start_over", reason=str(error), pending=len(overlay))
        overlay.start_over(lost=error.lost)
    else:
        overlay.read(news.records, news.as_of)
