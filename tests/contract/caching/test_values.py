"""A cache gives back what it was given, knows None from nothing, and counts what it was asked."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiocache import cached  # type: ignore[import-untyped]

from shop_services.caching.backend import MISS, Backend
from shop_services.caching.errors import KeyExists
from tests.contract.caching.conftest import World

VALUES = ["", "text", "ä\0🙂", 0, -7, 1.5, True, [1, [2]], {"a": {"b": None}}, [], "x" * 100_000]


@pytest.mark.parametrize("value", VALUES)
async def test_a_value_comes_back_as_it_was(cache: Backend, value: object) -> None:
    """What JSON can say survives, empty or large."""
    assert await cache.set("k", value) is True
    assert await cache.get("k") == value


async def test_a_miss_gives_the_default(cache: Backend) -> None:
    """Without one it gives None, as aiocache does, and `MISS` where that is asked for."""
    assert await cache.get("k") is None
    assert await cache.get("k", default=5) == 5
    assert await cache.get_or_miss("k") is MISS


async def test_a_cached_none_is_no_miss(cache: Backend) -> None:
    """It is returned, also if there is a default, and counts as a hit."""
    await cache.set("k", None)
    assert await cache.get("k", default=5) is None
    assert await cache.get_or_miss("k") is None
    assert await cache.multi_get_or_miss(["k", "other"]) == [None, MISS]
    assert await cache.exists("k") is True
    assert (cache.counts().hits, cache.counts().misses) == (3, 1)


async def test_several_values_at_once(cache: Backend) -> None:
    """They come in the order that they were asked for, a key twice if asked twice, with None where there is nothing."""
    assert await cache.multi_set([("a", 1), ("b", None), ("c", "3")]) is True
    assert await cache.multi_get(["c", "missing", "a", "b", "a"]) == ["3", None, 1, None, 1]
    assert await cache.multi_get_or_miss(["missing", "a", "b"]) == [MISS, 1, None]


async def test_none_at_once(cache: Backend) -> None:
    """An empty batch is no mistake."""
    assert await cache.multi_set([]) is True
    assert await cache.multi_get([]) == []
    assert await cache.multi_get_or_miss([]) == []


async def test_the_last_value_counts(cache: Backend) -> None:
    """A set replaces what was there."""
    await cache.set("k", 1)
    await cache.set("k", "two")
    assert await cache.get("k") == "two"


async def test_add_keeps_the_first(cache: Backend) -> None:
    """A second add changes nothing and says so, until the first value is gone."""
    assert await cache.add("k", 1) is True
    with pytest.raises(KeyExists, match="k'"):
        await cache.add("k", 2)
    assert await cache.get("k") == 1
    await cache.delete("k")
    assert await cache.add("k", 3) is True
    assert await cache.get("k") == 3


async def test_a_cached_none_stops_an_add(cache: Backend) -> None:
    """None is a value here too."""
    await cache.set("k", None)
    with pytest.raises(KeyExists):
        await cache.add("k", 1)


async def test_one_of_many_adds_wins(cache: Backend) -> None:
    """Of twenty at the same time one is told that it was first, and its value stays."""
    answers = await asyncio.gather(*(cache.add("k", i) for i in range(20)), return_exceptions=True)
    winners = [i for i, answer in enumerate(answers) if answer is True]
    assert len(winners) == 1
    assert all(isinstance(answer, KeyExists) for i, answer in enumerate(answers) if i not in winners)
    assert await cache.get("k") == winners[0]


async def test_delete_says_what_there_was(cache: Backend) -> None:
    """1 for a value, also for None, and 0 for nothing."""
    await cache.multi_set([("a", 1), ("b", None)])
    assert [await cache.delete("a"), await cache.delete("b"), await cache.delete("a")] == [1, 1, 0]
    assert await cache.get_or_miss("b") is MISS


async def test_exists(cache: Backend) -> None:
    """It tells whether there is a value, and is neither hit nor miss."""
    await cache.set("k", 1)
    assert (await cache.exists("k"), await cache.exists("other")) == (True, False)
    assert (cache.counts().hits, cache.counts().misses) == (0, 0)


async def test_increment(cache: Backend) -> None:
    """It adds to a whole number, and begins with the first sum."""
    assert await cache.increment("k") == 1
    assert await cache.increment("k", 10) == 11
    assert await cache.increment("k", delta=-20) == -9
    assert await cache.get("k") == -9
    await cache.set("set", 5)
    assert await cache.increment("set") == 6


async def test_no_increment_is_lost(cache: Backend) -> None:
    """Fifty at the same time add up, and each gets a sum of its own."""
    sums = await asyncio.gather(*(cache.increment("k") for _ in range(50)))
    assert sorted(sums) == list(range(1, 51))


@pytest.mark.parametrize("value", ["text", 1.5, [1], None, True])
async def test_only_whole_numbers_are_incremented(cache: Backend, value: object) -> None:
    """Anything else stays what it is."""
    await cache.set("k", value)
    with pytest.raises(TypeError, match="whole number"):
        await cache.increment("k")
    assert await cache.get("k") == value


async def test_what_happened_is_counted(cache: Backend) -> None:
    """Each look is a hit or a miss, each stored value a set, each removed one a delete."""
    await cache.set("a", 1)
    await cache.multi_set([("b", 2), ("c", 3)])
    await cache.add("d", 4)
    await cache.increment("e")
    with pytest.raises(KeyExists):
        await cache.add("a", 1)
    await cache.get("a")
    await cache.get_or_miss("missing")
    await cache.multi_get(["b", "missing", "c"])
    await cache.delete("a")
    await cache.delete("a")
    counts = cache.counts()
    assert (counts.hits, counts.misses, counts.sets, counts.deletes) == (3, 2, 5, 1)
    assert counts.hit_ratio == 3 / 5
    assert counts.entries in (4, None)
    await cache.clear()
    assert cache.counts().deletes == 5


async def test_values_are_made_and_read_by_the_functions_given(cache: Backend) -> None:
    """`dumps_fn` and `loads_fn` take the serializer's place in one call."""
    await cache.set("k", [1], dumps_fn=lambda value: json.dumps([value, "made"]))
    assert await cache.get("k", loads_fn=json.loads) == [[1], "made"]
    assert await cache.multi_get(["k"], loads_fn=json.loads) == [[[1], "made"]]


async def test_aiocaches_decorator_works(world: World) -> None:
    """`cached` over one of these calls the function once for equal arguments."""
    calls: list[int] = []

    async def double(number: int) -> int:
        calls.append(number)
        return number * 2

    decorator = cached(key_builder=lambda _, number: f"double/{number}")
    decorated = decorator(double)
    decorator.cache = cache = world.cache()
    assert [await decorated(2), await decorated(2), await decorated(3)] == [4, 4, 6]
    assert calls == [2, 3]
    assert await cache.get("double/3") == 6


async def test_it_can_be_closed_and_used_again(world: World) -> None:
    """`close` lets go of connections, twice without harm; what is shared is still there after it."""
    async with world.cache() as cache:
        await cache.set("k", 1)
        await cache.close()
        assert await cache.get("k") == 1
    await cache.close()
