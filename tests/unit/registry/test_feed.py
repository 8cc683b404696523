"""What readers of a feed see."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from grpc_registry import ConfigSnapshot, Instance, Resolution, Snapshot, Unresolved
from grpc_registry.feed import Feed

A, B = Instance("s", "h:1", id="a"), Instance("s", "h:2", id="b")


def snapshot(revision: int, *instances: Instance, stale: bool = False, relisted: bool = False) -> Snapshot:
    return Snapshot("s", revision, instances, stale=stale, relisted=relisted)


async def test_a_reader_sees_the_latest_and_then_each_change() -> None:
    """The first item is what is known already; later ones follow as they are published."""
    feed: Feed[Snapshot] = Feed("s")
    feed.listed(snapshot(1))
    feed.folded(snapshot(2, A))
    async with aclosing(feed.read()) as reader:
        assert await anext(reader) == snapshot(2, A)
        feed.folded(snapshot(3, A, B))
        assert await anext(reader) == snapshot(3, A, B)


async def test_a_slow_reader_misses_what_lies_between_but_not_that_there_was_a_relist() -> None:
    """A relist between two snapshots of a reader marks the second, even if events were folded in after it."""
    feed: Feed[Snapshot] = Feed("s")
    feed.listed(snapshot(1, A, B))
    async with aclosing(feed.read()) as slow:
        await anext(slow)
        feed.listed(snapshot(5, B))
        feed.folded(snapshot(6))
        assert await anext(slow) == snapshot(6, relisted=True)
        feed.folded(snapshot(7, A))
        assert await anext(slow) == snapshot(7, A)
    async with aclosing(feed.read()) as newcomer:
        assert await anext(newcomer) == snapshot(7, A), "who knew nothing before has nothing to doubt"


async def test_a_feed_of_configs_keeps_the_same_promises() -> None:
    """What is fed makes no difference: conflated, stale in an outage, marked after a relist."""
    feed: Feed[ConfigSnapshot] = Feed("s")
    feed.listed(ConfigSnapshot("s", 1, None))
    async with aclosing(feed.read()) as reader:
        assert await anext(reader) == ConfigSnapshot("s", 1, None)
        feed.folded(ConfigSnapshot("s", 2, "a"))
        feed.folded(ConfigSnapshot("s", 3, "b"))
        assert await anext(reader) == ConfigSnapshot("s", 3, "b")
        feed.listed(ConfigSnapshot("s", 9, "b"))
        feed.unreachable("gone")
        assert await anext(reader) == ConfigSnapshot("s", 9, "b", stale=True)
        feed.listed(ConfigSnapshot("s", 10, None))
        assert await anext(reader) == ConfigSnapshot("s", 10, None, relisted=True)


async def test_an_outage_makes_the_last_snapshot_stale_and_its_end_makes_it_fresh() -> None:
    """Staleness is published once, however often the registry fails to answer, and so is its end."""
    feed: Feed[Snapshot] = Feed("s")
    feed.listed(snapshot(1, A))
    async with aclosing(feed.read()) as reader:
        await anext(reader)
        feed.unreachable("gone")
        assert await anext(reader) == snapshot(1, A, stale=True)
        feed.unreachable("still gone")
        feed.listed(snapshot(4, A))
        assert await anext(reader) == snapshot(4, A, relisted=True)


async def test_without_a_snapshot_an_outage_is_unresolved() -> None:
    """A reader of what was never known is told why, again only when the reason is another."""
    feed: Feed[Snapshot] = Feed("s")
    async with aclosing(feed.read()) as reader:
        first = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        assert not first.done(), "before the first word there is nothing to say"
        feed.unreachable("refused")
        assert await first == Unresolved("s", "refused")
        feed.unreachable("refused")
        feed.unreachable("frozen")
        assert await anext(reader) == Unresolved("s", "frozen")
        feed.listed(snapshot(1))
        assert await anext(reader) == snapshot(1)


async def test_a_list_that_tells_nothing_new_wakes_nobody() -> None:
    """A periodic list that finds what is known is not published, only its revision is kept."""
    feed: Feed[Snapshot] = Feed("s")
    feed.listed(snapshot(1, A))
    async with aclosing(feed.read()) as reader:
        await anext(reader)
        feed.listed(snapshot(9, A))
        feed.folded(snapshot(10, A, B))
        assert await anext(reader) == snapshot(10, A, B)
    assert feed.latest.revision == 10 if isinstance(feed.latest, Snapshot) else False


@pytest.mark.parametrize("known", [snapshot(1, A), None])
async def test_closing_ends_every_reader(known: Snapshot | None) -> None:
    """Readers that wait, and readers that come later, end without an error."""
    feed: Feed[Snapshot] = Feed("s")
    if known is not None:
        feed.listed(known)

    async def read() -> list[Resolution]:
        return [resolution async for resolution in feed.read()]

    waiting = asyncio.create_task(read())
    await asyncio.sleep(0)
    feed.close()
    assert await waiting == ([known] if known else [])
    assert await read() == []
