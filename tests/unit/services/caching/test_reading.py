"""What a read returns, and from where."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Copy
from shop_services.caching.errors import InvalidKey
from shop_services.caching.fetching import REFRESHING
from tests.unit.services.caching.sources import Faulty, Follower, Source, reading
from tests.unit.services.caching.virtual_time import in_virtual_time, now, timed


@in_virtual_time
async def test_a_copy_is_looked_for_here_then_in_the_shared_cache_then_in_the_source() -> None:
    """Each tier is asked only if the one before has nothing, and has it for the next time."""
    source, shared = Source(), Faulty()
    source.change("a")
    load = partial(source.load, "a")
    async with reading(Follower(source), shared) as first, reading(Follower(source), shared) as second:
        loaded, slow = await timed(first.get("a", load))
        assert slow >= source.seconds
        here, at_once = await timed(first.get("a", load))
        assert at_once == 0
        await asyncio.sleep(0.01)
        there, soon = await timed(second.get("a", load))
        assert 0 < soon <= 0.002
        assert loaded.value == here.value == there.value == "a of 1"
        assert (await timed(second.get("a", load)))[1] == 0
    assert len(source.loads) == 1
    assert (first.counts().local.hits, first.counts().local.misses) == (1, 1)
    assert (first.counts().shared.hits, first.counts().shared.misses) == (0, 1)
    assert (second.counts().shared.hits, second.counts().loads) == (1, 0)


@in_virtual_time
async def test_that_there_is_none_is_known_and_for_a_shorter_time() -> None:
    """A key without a value is asked for once, and again when its own TTL is over."""
    source, shared = Source(), Faulty()
    async with reading(Follower(source), shared, negative_ttl=5.0) as texts:
        for _ in range(3):
            assert (await texts.get("a", partial(source.load, "a"))).value is None
        assert len(source.loads) == 1
        await asyncio.sleep(5.1)
        assert (await texts.get("a", partial(source.load, "a"))).value is None
        assert len(source.loads) == 2


@in_virtual_time
async def test_a_copy_ends_with_its_ttl_in_both_caches() -> None:
    """A copy taken over from another process lives no longer for that."""
    source, shared = Source(), Faulty()
    async with reading(Follower(source), shared) as first, reading(Follower(source), shared) as second:
        await first.get("a", partial(source.load, "a"))
        await asyncio.sleep(3.0)
        await second.get("a", partial(source.load, "a"))
        assert len(source.loads) == 1
        await asyncio.sleep(2.1)
        await second.get("a", partial(source.load, "a"))
        assert len(source.loads) == 2


@in_virtual_time
async def test_a_copy_that_is_out_of_date_is_used_in_neither_tier() -> None:
    """From the moment that the process knows of a change, no copy from before it is returned, wherever it is kept."""
    source, shared = Source(), Faulty()
    source.change("a")
    follower = Follower(source)
    async with reading(follower, shared) as first, reading(follower, shared) as second:
        await first.get("a", partial(source.load, "a"))
        source.change("a")
        assert (await first.get("a", partial(source.load, "a"))).value == "a of 1"
        follower.catch_up()
        assert (await first.get("a", partial(source.load, "a"))).value == "a of 2"
        source.change("a")
        follower.catch_up()
        assert (await second.get("a", partial(source.load, "a"))).value == "a of 3"
    assert first.counts().local.stale == 1
    assert second.counts().shared.stale >= 1


@in_virtual_time
async def test_without_knowledge_nothing_is_used_and_the_shared_cache_is_not_asked() -> None:
    """A process that cannot tell what is current asks the source each time, and uses its caches again when it can."""
    source, shared = Source(), Faulty()
    follower = Follower(source)
    async with reading(follower, shared) as texts:
        await texts.get("a", partial(source.load, "a"))
        await asyncio.sleep(0.1)
        follower.blind = True
        shared.calls.clear()
        for _ in range(3):
            _, seconds = await timed(texts.get("a", partial(source.load, "a")))
            assert seconds == pytest.approx(source.seconds)
        assert (len(source.loads), shared.calls) == (4, [])
        follower.blind = False
        await texts.get("a", partial(source.load, "a"))
        assert len(source.loads) == 4


@in_virtual_time
async def test_many_keys_take_one_look_and_one_load() -> None:
    """Of a hundred keys those here need nothing, those in the shared cache one call, and all others one load."""
    source, shared = Source(), Faulty()
    keys = [f"k{number}" for number in range(100)]
    for key in keys[:80]:
        source.change(key)
    async with reading(Follower(source), shared) as first, reading(Follower(source), shared) as second:
        await first.get_many(keys[:60], source.load_many)
        await second.get_many(keys[:30], source.load_many)
        await asyncio.sleep(0.1)
        shared.calls.clear()
        found = await second.get_many([*keys, *keys], source.load_many)
        assert {key: copy.value for key, copy in found.items()} == {key: source.copy(key).value for key in keys}
        await asyncio.sleep(0.1)
    assert shared.calls == ["multi_get", "multi_set", "multi_set"]  # those without a value live for another time
    assert source.loads == [keys[:60], keys[60:]]
    assert (second.counts().shared.hits, second.counts().shared.misses) == (60, 40)


@in_virtual_time
async def test_a_copy_that_is_put_is_read_at_once_here_and_there() -> None:
    """After `put` no source is asked for it, in this process nor in others."""
    source, shared = Source(), Faulty()
    source.change("a")
    async with reading(Follower(source), shared) as first, reading(Follower(source), shared) as second:
        await first.put("a", source.copy("a"))
        assert (await first.get("a", partial(source.load, "a"))).value == "a of 1"
        assert (await second.get("a", partial(source.load, "a"))).value == "a of 1"
    assert source.loads == []


@in_virtual_time
async def test_a_copy_that_is_put_too_late_is_not_kept() -> None:
    """What is out of date already when it is put does not replace a newer copy."""
    source, shared = Source(), Faulty()
    source.change("a")
    old = source.copy("a")
    source.change("a")
    follower = Follower(source)
    follower.catch_up()
    async with reading(follower, shared) as texts:
        await texts.get("a", partial(source.load, "a"))
        await texts.put("a", old)
        assert (await texts.get("a", partial(source.load, "a"))).value == "a of 2"
    assert len(source.loads) == 1


@in_virtual_time
async def test_what_is_forgotten_is_loaded_anew() -> None:
    """After `forget` neither cache has it, also if nobody else tells what is current."""
    source, shared = Source(), Faulty()
    source.change("a")
    async with reading(Follower(source), shared) as first, reading(Follower(source), shared) as second:
        await first.get("a", partial(source.load, "a"))
        source.change("a")
        await first.forget("a")
        assert (await first.get("a", partial(source.load, "a"))).value == "a of 2"
        assert (await second.get("a", partial(source.load, "a"))).value == "a of 2"


@in_virtual_time
async def test_a_hot_key_is_refreshed_before_it_expires_and_nobody_waits() -> None:
    """Reads of a key go on for ten lives of its copy, and only the first of them takes any time."""
    source, shared = Source(), Faulty()
    async with reading(Follower(source), shared, negative_ttl=1.0, refresh_ahead=0.3) as texts:
        await texts.get("a", partial(source.load, "a"))
        slow = 0
        while now() < 10:
            _, seconds = await timed(texts.get("a", partial(source.load, "a")))
            slow += seconds > 0
            await asyncio.sleep(0.005)
        assert slow == 0
        assert 10 <= len(source.loads) <= 16
        assert texts.counts().refreshes >= len(source.loads) - 1


@in_virtual_time
async def test_of_many_processes_one_refreshes_and_the_others_take_it_over() -> None:
    """Six processes read one key through ten lives of its copy: the source is asked hardly more than by one of them."""
    source, shared = Source(), Faulty()
    processes = [reading(Follower(source), shared, seed=seed, negative_ttl=1.0, refresh_ahead=0.3) for seed in range(6)]

    async def read(texts_of: int) -> None:
        async with processes[texts_of] as texts:
            while now() < 10:
                await texts.get("a", partial(source.load, "a"))
                await asyncio.sleep(0.007)

    await asyncio.gather(*map(read, range(6)))
    assert 10 <= len(source.loads) <= 18


@in_virtual_time
async def test_a_failed_refresh_fails_no_read_and_is_tried_again() -> None:
    """While the copy lives it is read, whatever the source says to those who want a newer one."""
    source = Source()
    source.change("a")
    async with reading(Follower(source), None, ttl=10.0, refresh_ahead=0.5) as texts:
        await texts.get("a", partial(source.load, "a"))
        source.error = ConnectionError("the source is away")
        while now() < 8.9:
            assert (await texts.get("a", partial(source.load, "a"))).value == "a of 1"
            await asyncio.sleep(0.01)
        assert texts.counts().load_errors == len(source.loads) - 1
        assert 2 <= len(source.loads) <= 12
        source.error = None
        while now() < 30:
            assert (await timed(texts.get("a", partial(source.load, "a"))))[1] == 0
            await asyncio.sleep(0.01)


@in_virtual_time
async def test_early_refreshes_are_bounded_in_number() -> None:
    """However many keys are due at a time, no more than the bound are refreshed; their copies do until then."""
    source = Source(seconds=1.0)
    keys = [f"k{number}" for number in range(2 * REFRESHING)]
    async with reading(Follower(source), None, ttl=100.0, negative_ttl=100.0, refresh_ahead=0.5) as texts:
        await texts.get_many(keys, source.load_many)
        await asyncio.sleep(89.0)
        assert (await timed(texts.get_many(keys[:3], source.load_many)))[1] == 0
        for key in keys:
            assert (await timed(texts.get(key, partial(source.load, key))))[1] == 0
        assert (await timed(texts.get_many(keys, source.load_many)))[1] == 0
        await asyncio.sleep(0.1)
        assert source.loads == [keys, keys[:3], *([key] for key in keys[3:REFRESHING])]
        assert repr(texts) == f"<ReadThrough texts: {REFRESHING} in flight, {REFRESHING} being refreshed>"


@in_virtual_time
async def test_either_cache_will_do() -> None:
    """With the shared cache alone, and with the local one alone, a key is loaded once."""
    for shared, local in ((Faulty(), False), (None, True)):
        source = Source()
        async with reading(Follower(source), shared, local=local) as texts:
            for _ in range(3):
                await texts.get("a", partial(source.load, "a"))
                await asyncio.sleep(0.01)
            await texts.put("b", source.copy("b"))
            await texts.get("b", partial(source.load, "b"))
            await texts.forget("a")
            await texts.get("a", partial(source.load, "a"))
        assert source.loads == [["a"], ["a"]]


@in_virtual_time
async def test_keys_that_no_cache_accepts_are_named() -> None:
    """The error says what is wrong with the key, and nothing is loaded."""
    source = Source()
    async with reading(Follower(source), Faulty()) as texts:
        with pytest.raises(InvalidKey, match="0 bytes as UTF-8"):
            await texts.get("", partial(source.load, ""))
        with pytest.raises(InvalidKey, match="at most 1,024"):
            await texts.get_many(["a", "k" * 1025], source.load_many)
        with pytest.raises(InvalidKey, match="0 bytes as UTF-8"):
            await texts.put("", Copy("text", 1))
    assert source.loads == []


@pytest.mark.parametrize("size", [1024 * 1024, 2 * 1024 * 1024])
@in_virtual_time
async def test_a_value_too_large_to_be_shared_is_read_all_the_same(size: int) -> None:
    """It stays in this process, others in the same load are shared, and the shared cache is not to blame."""
    shared = Faulty()

    async def load(keys: object) -> dict[str, Copy[str]]:
        return {"large": Copy("x" * size, 1), "small": Copy("x", 1)}

    async with reading(Follower(Source()), shared) as texts:
        await texts.get_many(["large", "small"], load)
        await asyncio.sleep(0.1)
        assert texts.counts().shared.skipped == 1
        assert texts.counts().shared.errors == 0
        assert await shared.exists("small")
        assert not await shared.exists("large")
        assert (await timed(texts.get_many(["large"], load)))[1] == 0


@in_virtual_time
async def test_a_value_larger_than_the_local_cache_replaces_what_it_had() -> None:
    """Such a copy is not kept, and neither is the one before it."""
    local: Bounded[Copy[str]] = Bounded(max_entries=10, max_bytes=10, size_of=lambda key, copy: len(copy.value or ""))
    source = Source()
    async with reading(Follower(source), None, local=local) as texts:
        await texts.put("a", Copy("short", 1))
        await texts.put("a", Copy("much too long", 2))
        assert (await texts.get("a", partial(source.load, "a"))).as_of == 0
        assert texts.counts().local.skipped == 1
