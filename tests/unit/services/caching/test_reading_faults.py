"""What a shared cache may do without harm to a read."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from shop_services.caching.breaker import FAILURES
from shop_services.caching.errors import CacheError
from shop_services.caching.fetching import SHARING
from tests.unit.services.caching.sources import Faulty, Follower, Source, reading
from tests.unit.services.caching.virtual_time import in_virtual_time, now, timed

FOR_EVER = 1e6


@in_virtual_time
async def test_a_cache_that_is_down_is_hardly_asked() -> None:
    """While it refuses, reads come from the source, and it is asked three times and then once a second."""
    source, shared = Source(), Faulty()
    shared.down = True
    async with reading(Follower(source), shared) as texts:
        number = 0
        while now() < 10:
            number += 1
            _, seconds = await timed(texts.get(f"k{number}", partial(source.load, f"k{number}")))
            assert seconds <= source.seconds + 0.002
        assert len(source.loads) == number
        assert FAILURES + 7 <= len(shared.calls) <= FAILURES + 13
        assert texts.counts().shared.errors == len(shared.calls)
        assert texts.counts().shared.skipped > number
        assert repr(texts).endswith("shared cache paused>")


@in_virtual_time
async def test_what_a_cache_refuses_is_logged_once() -> None:
    """Reads go on, refusals are counted, and one line of the log has the reason; the cache is asked all the same."""
    source, shared = Source(), Faulty()
    shared.refusal = CacheError("namespace: there is no namespace 'texts'")
    async with reading(Follower(source), shared) as texts:
        with capture_logs() as entries:
            for number in range(10):
                assert (await texts.get(f"k{number}", partial(source.load, f"k{number}"))).value is None
        assert shared.named("get") == 10
        assert texts.counts().shared.errors >= 10
        assert texts.counts().shared.skipped == 0
    refused = {"event": "cache_refused", "log_level": "warning", "cache": "texts", "error": "CacheError"}
    assert entries == [refused | {"message": "namespace: there is no namespace 'texts'"}]


@pytest.mark.parametrize("seconds", [FOR_EVER, 0.099])
@in_virtual_time
async def test_a_cache_that_does_not_answer_costs_no_read_more_than_the_bound(seconds: float) -> None:
    """Each read is answered within `patience` and the load, a thousand at a time too; frozen, it soon costs nothing."""
    source, shared = Source(), Faulty()
    shared.seconds = seconds
    async with reading(Follower(source), shared, timeout=0.1, patience=0.25) as texts:
        took = []
        for number in range(20):
            reads = [texts.get(f"{number}/{key}", partial(source.load, f"{number}/{key}")) for key in range(50)]
            took += [spent for _, spent in await asyncio.gather(*map(timed, reads))]
        assert max(took) <= 0.25 + source.seconds + 1e-6
        if seconds == FOR_EVER:
            assert sum(spent > source.seconds + 1e-6 for spent in took) <= 50 + FAILURES


@in_virtual_time
async def test_a_cache_that_comes_back_is_used_again() -> None:
    """Within about a second of its return copies are found there."""
    source, shared = Source(), Faulty()
    async with reading(Follower(source), shared) as texts, reading(Follower(source), shared, seed=2) as other:
        shared.seconds = FOR_EVER
        for number in range(5):
            await texts.get(f"k{number}", partial(source.load, f"k{number}"))
        shared.seconds = 0.001
        came_back = now()
        while not texts.counts().shared.hits:
            await other.get("a", partial(source.load, "a"))
            await texts.forget("a")
            await other.put("a", source.copy("a"))
            await texts.get("a", partial(source.load, "a"))
        assert now() - came_back < 1.5


@in_virtual_time
async def test_garbage_is_a_miss_and_is_replaced() -> None:
    """Bytes that are no copy are counted and never returned; the next load puts a copy in their place."""
    source, shared = Source(), Faulty()
    source.change("a")
    async with reading(Follower(source), shared) as first, reading(Follower(source), shared) as second:
        await shared.set("a", b"garbage")
        assert (await first.get("a", partial(source.load, "a"))).value == "a of 1"
        assert first.counts().shared.errors == 1
        await asyncio.sleep(0.01)
        assert (await second.get("a", partial(source.load, "a"))).value == "a of 1"
        assert len(source.loads) == 1
        shared.garbage = b""
        await second.forget("b")
        found = await second.get_many(["a", "b"], source.load_many)
        assert found["a"].value == "a of 1"


@in_virtual_time
async def test_a_cache_that_forgets_what_it_is_told_is_no_worse_than_none() -> None:
    """It confirms every write and does none: each process loads what it needs, once."""
    source, shared = Source(), Faulty()
    source.change("a")
    shared.deaf = True
    async with reading(Follower(source), shared) as texts:
        for _ in range(10):
            assert (await texts.get("a", partial(source.load, "a"))).value == "a of 1"
    assert len(source.loads) == 1


@in_virtual_time
async def test_a_copy_that_arrives_late_and_one_that_was_not_deleted_are_not_used() -> None:
    """What the cache does with a copy long after its answer brings no old copy back, once the change is known."""
    source, shared = Source(), Faulty()
    source.change("a")
    follower, other = Follower(source), Follower(source)
    async with reading(follower, shared) as first, reading(other, shared) as second:
        shared.late = 1.0
        await first.get("a", partial(source.load, "a"))
        source.change("a")
        follower.catch_up()
        other.catch_up()
        await first.forget("a")
        await asyncio.sleep(2.0)
        assert await shared.exists("a")
        assert (await second.get("a", partial(source.load, "a"))).value == "a of 2"
        assert second.counts().shared.stale >= 1


@in_virtual_time
async def test_put_and_forget_raise_nothing_and_end_in_time() -> None:
    """A write that is followed by them takes `timeout` longer at most, and its copy is here all the same."""
    source, shared = Source(), Faulty()
    async with reading(Follower(source), shared) as texts:
        for seconds, down in ((0.0, True), (FOR_EVER, False)):
            shared.seconds, shared.down = seconds, down
            for _ in range(5):
                source.change("a")
                assert (await timed(texts.put("a", source.copy("a"))))[1] <= 0.1
                here = await texts.get("a", partial(source.load, "a"))
                assert here.value == f"a of {source.revision}"
                assert (await timed(texts.forget("a")))[1] <= 0.1
    assert source.loads == []


@in_virtual_time
async def test_results_that_wait_to_be_stored_are_bounded_in_number() -> None:
    """A cache that is slow, but not slow enough to be left alone, does not gather tasks without end."""
    source, shared = Source(seconds=0.0), Faulty()
    async with reading(Follower(source), shared, timeout=10.0) as texts:
        shared.seconds = 9.0
        keys = [f"k{number}" for number in range(2 * SHARING)]
        await asyncio.gather(*(texts.get(key, partial(source.load, key)) for key in keys))
        assert texts.counts().shared.skipped == SHARING
