"""Values in memory behave as a plain model does, whatever is asked of them and however time goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shop_services.cache.domain import Entry, Namespace, Swap
from shop_services.cache.memory import MemoryValues

T = TypeVar("T")
SECOND = 10**9


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        return self.now


def memory(clock: Clock | None = None, **limits: int) -> MemoryValues:
    given = {"max_entries": 1000, "max_bytes": 100_000} | limits
    return MemoryValues([Namespace(name, "lru", **given) for name in ("y", "x")], clock or Clock())


async def test_a_value_is_gone_at_the_end_of_its_ttl_and_not_before() -> None:
    """A microsecond before its time the value is there; then it is not, and stats do not count it."""
    clock = Clock()
    values = memory(clock)
    await values.set("x", "k", b"1", 10 * SECOND)
    clock.now += 10 * SECOND - 1000
    entry = await values.get("x", "k")
    assert entry is not None
    assert entry.expires == clock.now + 1000
    clock.now += 1000
    counts = (await values.stats())["x"]
    assert (counts.entries, counts.bytes, counts.expirations) == (0, 0, 1)
    assert await values.get("x", "k") is None


async def test_each_namespace_has_limits_of_its_own() -> None:
    """A crowd in one evicts nothing of another, and keys count as the bytes that they are."""
    values = memory(max_entries=2, max_bytes=10)
    await values.set("y", "k", b"1", None)
    for key in ("a", "b", "c", "ü"):
        await values.set("x", key, b"123", None)
    stats = await values.stats()
    assert (stats["x"].entries, stats["x"].bytes, stats["x"].evictions) == (2, 9, 2)
    assert (stats["y"].entries, stats["y"].evictions) == (1, 0)


async def test_versions_of_a_process_that_starts_again_are_greater() -> None:
    """They begin at the clock's microseconds, of which a process uses fewer than there are."""
    clock = Clock()
    before = memory(clock)
    for _ in range(100):
        await before.set("x", "k", b"1", None)
    clock.now += 1_000_000
    assert memory(clock).version > before.version


async def test_what_is_discarded_or_peeked_at_is_not_counted() -> None:
    """Neither as a hit nor as deleted, and a look does not make an entry recent."""
    values = memory(max_entries=2)
    first = await values.set("x", "k", b"1", None)
    await values.set("x", "l", b"2", None)
    assert values.peek("x", "k") == Entry("k", b"1", first)
    assert values.peek("x", "none") is None
    await values.set("x", "m", b"3", None)
    assert values.peek("x", "k") is None
    assert [values.discard("x", "l"), values.discard("x", "l")] == [True, False]
    counts = values.counts()["x"]
    assert (counts.entries, counts.hits, counts.misses, counts.deletes, counts.evictions) == (1, 0, 0, 0, 1)


async def test_retaining_lets_others_in_between() -> None:
    """What is not wanted is discarded in steps, and what is set meanwhile over an unwanted entry is looked at too."""
    values = memory()
    for name in ("x", "y"):
        await values.set_many(name, [(f"k{number}", b"") for number in range(500)], None)
    last = values.version
    looks = 0

    def wanted(namespace: str, entry: Entry) -> bool:
        nonlocal looks
        looks += 1
        return entry.version > last or (namespace == "y" and entry.key < "k3")

    retaining = asyncio.create_task(values.retain(wanted))
    await asyncio.sleep(0)
    assert 0 < looks < 500
    await values.set("x", "k499", b"new", None)
    discarded = await retaining
    left = [key for key in (f"k{number}" for number in range(500)) if values.peek("y", key)]
    assert left == [f"k{number}" for number in range(500) if f"k{number}" < "k3"]
    assert (await values.stats())["x"].entries == 1
    assert discarded == 999 - len(left)


def test_a_namespace_without_a_policy_is_refused() -> None:
    """It is one that another store keeps."""
    with pytest.raises(ValueError, match="'free' has no policy"):
        MemoryValues([Namespace("free")], Clock())


KEYS = st.sampled_from(["a", "b", "cc", "ß"])
NAMESPACES = st.sampled_from(["x", "y"])
CONTENTS = st.binary(max_size=12)
TTLS = st.none() | st.integers(1, 50).map(lambda number: number * SECOND)


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


class ValuesBesideModel(RuleBasedStateMachine):
    """The model is a dictionary that looks at every entry each time: slow, and plainly right."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.values = memory(self.clock)
        self.model: dict[tuple[str, str], Entry] = {}
        self.newest = 0

    def keep(self, namespace: str, key: str, content: bytes, ttl: int | None, version: int) -> None:
        assert version > self.newest
        self.newest = version
        self.model[namespace, key] = Entry(key, content, version, None if ttl is None else self.clock.now + ttl)

    @rule(namespace=NAMESPACES, key=KEYS, content=CONTENTS, ttl=TTLS)
    def set(self, namespace: str, key: str, content: bytes, ttl: int | None) -> None:
        self.keep(namespace, key, content, ttl, now(self.values.set(namespace, key, content, ttl)))

    @rule(namespace=NAMESPACES, contents=st.dictionaries(KEYS, CONTENTS, min_size=1), ttl=TTLS)
    def set_many(self, namespace: str, contents: dict[str, bytes], ttl: int | None) -> None:
        versions = now(self.values.set_many(namespace, list(contents.items()), ttl))
        for (key, content), version in zip(contents.items(), versions, strict=True):
            self.keep(namespace, key, content, ttl, version)

    @rule(namespace=NAMESPACES, key=KEYS, content=CONTENTS, ttl=TTLS, off=st.sampled_from([0, 0, 0, -1, 1]))
    def compare_and_set(self, namespace: str, key: str, content: bytes, ttl: int | None, off: int) -> None:
        entry = self.model.get((namespace, key))
        present = 0 if entry is None else entry.version
        swap = now(self.values.compare_and_set(namespace, key, content, ttl, present + off))
        if off:
            assert swap == Swap(False, present)
        else:
            assert swap.swapped
            self.keep(namespace, key, content, ttl, swap.version)

    @rule(namespace=NAMESPACES, key=KEYS)
    def get(self, namespace: str, key: str) -> None:
        assert now(self.values.get(namespace, key)) == self.model.get((namespace, key))

    @rule(namespace=NAMESPACES, keys=st.lists(KEYS, unique=True))
    def get_many(self, namespace: str, keys: list[str]) -> None:
        found = now(self.values.get_many(namespace, keys))
        assert found == [self.model.get((namespace, key)) for key in keys]

    @rule(namespace=NAMESPACES, key=KEYS)
    def delete(self, namespace: str, key: str) -> None:
        existed = self.model.pop((namespace, key), None) is not None
        assert now(self.values.delete(namespace, key)) == existed

    @rule(namespace=NAMESPACES, keys=st.lists(KEYS, unique=True))
    def delete_many(self, namespace: str, keys: list[str]) -> None:
        existed = [self.model.pop((namespace, key), None) for key in keys]
        assert now(self.values.delete_many(namespace, keys)) == len(keys) - existed.count(None)

    @rule(namespace=NAMESPACES)
    def clear(self, namespace: str) -> None:
        gone = [place for place in self.model if place[0] == namespace]
        assert now(self.values.clear(namespace)) == len(gone)
        for place in gone:
            del self.model[place]

    @rule(step=st.integers(1, 60))
    def wait(self, step: int) -> None:
        self.clock.now += step * SECOND
        for place, entry in list(self.model.items()):
            if entry.expires is not None and entry.expires <= self.clock.now:
                del self.model[place]

    @invariant()
    def counts_what_there_is(self) -> None:
        for name, counts in now(self.values.stats()).items():
            entries = [entry for (namespace, _), entry in self.model.items() if namespace == name]
            size = sum(len(entry.key.encode()) + len(entry.value) for entry in entries)
            assert (counts.entries, counts.bytes) == (len(entries), size)


TestValuesBesideModel = ValuesBesideModel.TestCase
TestValuesBesideModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


async def test_versions_grow_from_one_instance_to_the_next() -> None:
    """A key whose owner dies goes on with greater versions at one that started earlier, and did more."""
    clock = Clock()
    older, clock.now = memory(clock), clock.now + SECOND
    younger = memory(clock)
    for _ in range(10):
        await older.set("x", "k", b"", None)
        clock.now += 1000
    first = await younger.set("x", "k", b"", None)
    clock.now += 1000
    second = await older.set("x", "k", b"", None)
    clock.now += 1000
    assert first < second < await younger.set("x", "k", b"", None)
