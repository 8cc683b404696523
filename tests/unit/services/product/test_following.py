"""Following a log of changes that is slow, broken, or busy."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from shop_services.product.domain import ChangeType
from shop_services.product.following import BATCH, Follower, Look
from shop_services.product.recent import RecentChanges, Touched

_NEVER = 3600.0


class _Log:
    """Counts the looks; each waits for `gate`, and fails while told to."""

    def __init__(self) -> None:
        self.revision = 0
        self.looks = 0
        self.looked = asyncio.Event()
        self.failing = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def touched(self, after: int, limit: int) -> Look:
        revision = self.revision
        self.looks += 1
        self.looked.set()
        await self.gate.wait()
        if self.failing:
            raise OSError("gone")
        found = range(after + 1, min(revision, after + limit) + 1)
        return Look(revision, [Touched.of(each, ChangeType.UPDATED, f"p{each}", "c", "c") for each in found])

    async def next_look(self) -> None:
        self.looked.clear()
        await asyncio.wait_for(self.looked.wait(), 5)


@pytest.fixture
def log() -> _Log:
    return _Log()


@pytest.fixture
def recent() -> RecentChanges:
    return RecentChanges(_NEVER)


async def _until_head(recent: RecentChanges, head: int) -> None:
    async with asyncio.timeout(5):
        while recent.head != head or not recent.usable:  # noqa: ASYNC110 - not every look is told
            await asyncio.sleep(0.001)


async def test_all_that_is_kept_is_read_at_the_start(log: _Log, recent: RecentChanges) -> None:
    """So that copies from before it are told apart at once: in batches, without a pause between."""
    log.revision = 2 * BATCH + 1
    async with Follower(log, recent, interval=_NEVER).following():
        await _until_head(recent, 2 * BATCH + 1)
    assert log.looks == 3


async def test_a_hint_is_followed_by_a_look(log: _Log, recent: RecentChanges) -> None:
    """Without one it looks at its interval alone; who wants to be told is told when there was something."""
    told = asyncio.Event()
    follower = Follower(log, recent, interval=_NEVER)
    follower.tell(told.set)
    async with follower.following():
        await _until_head(recent, 0)
        log.revision = 1
        assert not told.is_set()
        follower.notice()
        await asyncio.wait_for(told.wait(), 5)
        assert recent.head == 1
        looks = log.looks
        await asyncio.sleep(0.1)
        assert log.looks == looks


async def test_it_looks_at_its_interval(log: _Log, recent: RecentChanges) -> None:
    """Whether there are hints or not."""
    async with Follower(log, recent, interval=0.03).following():
        for _ in range(3):
            await log.next_look()


async def test_many_hints_cost_few_looks(log: _Log, recent: RecentChanges) -> None:
    """However fast others change the catalog, fifty looks a second are the most."""
    follower = Follower(log, recent, interval=_NEVER)
    async with follower.following():
        began = time.monotonic()
        while time.monotonic() - began < 0.2:
            follower.notice()
            await asyncio.sleep(0)
        elapsed = time.monotonic() - began
    assert log.looks <= elapsed / 0.02 + 2


async def test_a_log_that_fails_is_looked_at_again(log: _Log, recent: RecentChanges) -> None:
    """For ever; it is logged once, who wants to be told is told once, and what is known ages meanwhile."""
    told = []
    follower = Follower(log, recent, interval=0.03)
    follower.tell(lambda: told.append(1))
    log.failing = True
    with capture_logs() as logs:
        async with follower.following():
            for _ in range(3):
                await log.next_look()
            assert not recent.usable
            assert "failing" in repr(follower)
            log.failing = False
            log.revision = 3
            await _until_head(recent, 3)
    assert [line["event"] for line in logs] == ["catalog_changes_unreadable", "catalog_changes_readable"]
    assert len(told) == 2


async def test_a_look_that_cannot_be_taken_is_taken_again(
    log: _Log, recent: RecentChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails on what was found, the following goes on: it is logged once, and nothing is proven meanwhile."""
    with capture_logs() as logs, monkeypatch.context() as defect:
        defect.setattr(recent, "looked", lambda *_: 1 / 0)
        async with Follower(log, recent, interval=0.03).following():
            for _ in range(3):
                await log.next_look()
            assert not recent.usable
            defect.undo()
            await _until_head(recent, 0)
    assert [line["event"] for line in logs] == ["catalog_changes_unreadable", "catalog_changes_readable"]


async def test_who_is_told_cannot_end_the_following(log: _Log, recent: RecentChanges) -> None:
    """Whatever he raises, the next look is made."""
    follower = Follower(log, recent, interval=0.03)
    follower.tell(lambda: 1 / 0)  # type: ignore[arg-type]
    with capture_logs() as logs:
        async with follower.following():
            for revision in (1, 2):
                log.revision = revision
                await _until_head(recent, revision)
    assert [line["event"] for line in logs] == ["catalog_follower_callback_failed"] * 2


async def test_a_revision_is_reached_by_looking_at_once(log: _Log, recent: RecentChanges) -> None:
    """Who knows of a change waits for the look that finds it, and for a moment only if none does."""
    follower = Follower(log, recent, interval=_NEVER)
    async with follower.following():
        await _until_head(recent, 0)
        log.revision = 2
        assert await asyncio.gather(*[follower.reach(revision) for revision in (1, 2)]) == [True, True]
        began = time.monotonic()
        assert not await follower.reach(3)
        assert time.monotonic() - began < 5
        log.gate.clear()
        log.revision = 3
        assert not await follower.reach(3)
        log.gate.set()


async def test_copies_can_be_used_from_the_beginning(log: _Log, recent: RecentChanges) -> None:
    """The block begins when the log was looked at: until then all reads would go to the database."""
    log.gate.clear()
    asyncio.get_running_loop().call_later(0.05, log.gate.set)
    async with Follower(log, recent, interval=_NEVER).following():
        assert recent.usable
    assert log.looks == 1


async def test_the_proof_is_as_old_as_the_beginning_of_the_look(log: _Log, recent: RecentChanges) -> None:
    """A look that hung proves nothing about the time that it took."""
    follower = Follower(log, recent, interval=_NEVER)
    async with follower.following():
        before = recent.seen_at
        log.revision = 1
        log.gate.clear()
        follower.notice()
        await log.next_look()
        began = time.monotonic()
        await asyncio.sleep(0.05)
        log.gate.set()
        await _until_head(recent, 1)
        assert before < recent.seen_at <= began


async def test_it_ends_with_its_block(log: _Log, recent: RecentChanges) -> None:
    """A look on its way comes to its end, and no task is left."""
    following = Follower(log, recent, interval=0.03).following()
    await following.__aenter__()
    log.gate.clear()
    await log.next_look()
    asyncio.get_running_loop().call_later(0.05, log.gate.set)
    await following.__aexit__(None, None, None)
    assert "catalog-follower" not in {task.get_name() for task in asyncio.all_tasks()}
