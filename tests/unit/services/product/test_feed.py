"""The feed of changes, over a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from shop_services.product.domain import Change, ChangeType, Product
from shop_services.product.feed import ChangeFeed, Tail, Watcher
from shop_services.runtime.errors import OutOfRange, ResourceExhausted, Unavailable
from shop_services.runtime.money import Money

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_NEVER = 3600.0
"""Seconds between looks, where a test wants none but those it causes."""


def _change(revision: int) -> Change:
    product = Product(f"p{revision}", f"SKU-{revision}", "n", "", "c", Money("EUR", 1), _NOW, _NOW, revision, revision)
    return Change(revision, ChangeType.CREATED, product)


def _changes(first: int, last: int) -> list[Change]:
    return [_change(revision) for revision in range(first, last + 1)]


class _Log:
    """A log that keeps `kept` changes, counts the looks at it, and fails while told to."""

    def __init__(self, kept: int = 1000) -> None:
        self.changes: list[Change] = []
        self.kept = kept
        self.reads = 0
        self.failing = False
        self.looked_at = asyncio.Event()

    def append(self, count: int = 1) -> None:
        first = self.changes[-1].revision + 1 if self.changes else 1
        self.changes = [*self.changes, *_changes(first, first + count - 1)][-self.kept :]

    async def latest(self) -> int:
        return self.changes[-1].revision if self.changes else 0

    async def after(self, revision: int, limit: int) -> Sequence[Change]:
        self.reads += 1
        self.looked_at.set()
        await asyncio.sleep(0)
        if self.failing:
            raise OSError("gone")
        return [change for change in self.changes if change.revision > revision][:limit]


@pytest.fixture
def log() -> _Log:
    return _Log()


@pytest.fixture
async def feed(log: _Log) -> AsyncIterator[ChangeFeed]:
    feed = ChangeFeed(log, poll_seconds=_NEVER, tail=8)
    yield feed
    await feed.close()


async def _read(watcher: Watcher, until: int) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(5):
        while not seen or seen[-1] < until:
            seen += [change.revision for change in await watcher.read()]
    return seen


async def _idle(feed: ChangeFeed) -> None:
    if feed._poller is not None:
        await asyncio.wait_for(feed._poller, 5)
    assert "idle" in repr(feed)
    assert "catalog-changes" not in {task.get_name() for task in asyncio.all_tasks()}


def test_the_tail_knows_what_it_has_and_what_it_has_not() -> None:
    """The tail gives what comes after a revision, nothing for its end and beyond, and None where it has a gap."""
    tail = Tail(10, size=3)
    assert tail.after(9) is None
    assert tail.after(10) == ()
    tail.extend(_changes(11, 14))
    assert tail.after(10) is None
    assert tail.after(11) == tuple(_changes(12, 14))
    assert tail.after(13) == tuple(_changes(14, 14))
    assert tail.after(14) == tail.after(15) == ()


def test_the_tail_never_has_a_hole() -> None:
    """Changes that do not follow the last one push out all that were there."""
    tail = Tail(0, size=8)
    tail.extend(_changes(1, 3))
    tail.extend(_changes(6, 7))
    assert tail.after(2) is None
    assert tail.after(5) == tuple(_changes(6, 7))


async def test_a_watcher_begins_with_the_next_change(log: _Log, feed: ChangeFeed) -> None:
    """What happened before the watch is not repeated."""
    log.append(3)
    async with feed.watch() as watcher:
        assert watcher.revision == 3
        log.append(2)
        feed.notice()
        assert await _read(watcher, 5) == [4, 5]


async def test_a_watcher_goes_on_after_a_revision(log: _Log, feed: ChangeFeed) -> None:
    """All changes after the given one come, each once and in order, also those older than what memory holds."""
    log.append(50)
    async with feed.watch(after=10) as watcher:
        log.append(50)
        feed.notice()
        assert await _read(watcher, 100) == list(range(11, 101))


async def test_a_change_of_another_process_is_found_by_looking(log: _Log) -> None:
    """Nobody has to tell the feed: it looks by itself while somebody watches."""
    feed = ChangeFeed(log, poll_seconds=0.01)
    async with feed.watch() as watcher:
        reading = asyncio.create_task(_read(watcher, 1))
        await asyncio.sleep(0)
        log.append()
        assert await reading == [1]
    await feed.close()


async def test_many_watchers_cost_one_look(log: _Log, feed: ChangeFeed) -> None:
    """A change is read from the log once for all watchers that are up to date."""
    async with feed.watch() as one, feed.watch() as two, feed.watch() as three:
        readings = [asyncio.create_task(_read(watcher, 1)) for watcher in (one, two, three)]
        await log.looked_at.wait()
        before = log.reads
        log.append()
        feed.notice()
        assert await asyncio.gather(*readings) == [[1]] * 3
        assert log.reads == before + 1


async def test_nobody_watches_nobody_looks(log: _Log) -> None:
    """The task that looks ends with the last watcher, and begins again with the next, missing nothing."""
    feed = ChangeFeed(log, poll_seconds=0.001)
    assert repr(feed) == "<ChangeFeed 0 watchers, idle, <Tail of 0 to 0>>"
    async with feed.watch():
        assert "1 watchers, polling" in repr(feed)
    await _idle(feed)
    log.append(2)
    async with feed.watch(after=1) as watcher:
        log.append()
        assert await _read(watcher, 3) == [2, 3]
    await feed.close()


async def test_a_watcher_that_comes_while_the_task_ends_is_served(log: _Log, feed: ChangeFeed) -> None:
    """Leaving and coming at the same moment leaves nobody without news."""
    async with feed.watch():
        pass
    async with feed.watch() as watcher:
        log.append()
        feed.notice()
        assert await _read(watcher, 1) == [1]


async def test_changes_that_are_no_longer_kept_are_out_of_range(feed: ChangeFeed, log: _Log) -> None:
    """A watcher that begins before what is kept is told so; one that begins right at its edge gets all of it."""
    log.kept = 10
    log.append(30)
    async with feed.watch(after=20) as watcher:
        assert await _read(watcher, 30) == list(range(21, 31))
    async with feed.watch(after=19) as watcher:
        with pytest.raises(OutOfRange, match="after 19 are no longer kept, the oldest is 21"):
            await watcher.read()


async def test_a_watcher_that_falls_behind_the_log_is_told_so(log: _Log, feed: ChangeFeed) -> None:
    """A gap is never passed over in silence."""
    log.kept = 10
    log.append()
    async with feed.watch() as watcher:
        log.append(40)
        feed.notice()
        with pytest.raises(OutOfRange):
            await _read(watcher, 41)


async def test_a_revision_of_the_future_is_out_of_range(log: _Log, feed: ChangeFeed) -> None:
    """A revision that this catalog never had is refused, rather than waited for."""
    log.append(3)
    with pytest.raises(OutOfRange, match="no revision 4 yet; the latest change has 3"):
        async with feed.watch(after=4):
            pass


async def test_closing_ends_every_watcher(log: _Log, feed: ChangeFeed) -> None:
    """Who waits for news when the instance stops is told to go on elsewhere, and nobody new is let in."""
    async with feed.watch() as one, feed.watch() as two:
        readings = [asyncio.create_task(watcher.read()) for watcher in (one, two)]
        await log.looked_at.wait()
        await feed.close()
        for reading in readings:
            with pytest.raises(Unavailable, match="stopping"):
                await reading
    assert "idle" in repr(feed)
    with pytest.raises(Unavailable):
        async with feed.watch():
            pass


async def test_a_log_that_cannot_be_read_ends_the_watchers(log: _Log, feed: ChangeFeed) -> None:
    """Watchers are not left waiting for a task that failed; whoever comes when the log is back is served."""
    async with feed.watch() as watcher:
        reading = asyncio.create_task(watcher.read())
        await log.looked_at.wait()
        log.failing = True
        feed.notice()
        with pytest.raises(Unavailable, match="cannot be read"):
            await reading
    log.failing = False
    async with feed.watch() as watcher:
        log.append()
        feed.notice()
        assert await _read(watcher, 1) == [1]


async def test_there_are_no_more_watchers_than_the_limit(log: _Log) -> None:
    """One too many is refused, and has room again when another has left."""
    feed = ChangeFeed(log, poll_seconds=_NEVER, most=1)
    async with feed.watch():
        with pytest.raises(ResourceExhausted, match="1 callers watch the catalog here"):
            async with feed.watch():
                pass
    async with feed.watch():
        pass
    await feed.close()
