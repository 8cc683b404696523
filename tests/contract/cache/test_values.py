"""What every place that keeps the cache's values does, whichever it is."""

from __future__ import annotations

import asyncio

import pytest

from shop_services.cache.backend import Values
from shop_services.cache.domain import Entry, Swap
from tests.contract.cache.conftest import Place

MINUTE = 60 * 10**9
AMPLE = 4 * 10**9
"""For a value that a test must do something with before it ends, on a machine that may stand still meanwhile."""
KEYS = ["k", "a/b c:d", "ü", "*", "?[a]\\", "{k}", "x" * 1024]


async def read(values: Values, key: str, namespace: str = "a") -> bytes | None:
    entry = await values.get(namespace, key)
    return None if entry is None else entry.value


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:8])
async def test_a_value_comes_back_as_it_was_set(values: Values, key: str) -> None:
    """Any bytes under any text, with the version that `set` returned, and no time to expire unless it has one."""
    for value in (b"", b"\0\xff\r\n", b"x" * 1024 * 1024):
        version = await values.set("a", key, value, None)
        assert version > 0
        assert await values.get("a", key) == Entry(key, value, version, None)
        assert await values.get_many("a", [key]) == [Entry(key, value, version, None)]


async def test_a_key_has_a_value_in_each_namespace(values: Values) -> None:
    """What is set, deleted or cleared in one leaves the other alone."""
    await values.set("a", "k", b"1", None)
    assert await read(values, "k", "b") is None
    await values.set("b", "k", b"2", None)
    assert await values.delete("a", "k")
    assert await values.clear("a") == 0
    assert (await read(values, "k"), await read(values, "k", "b")) == (None, b"2")


async def test_versions_grow_with_every_change(place: Place) -> None:
    """Over sets, swaps, deletes, a clear, a restart of the service, and between keys: one names one value for ever."""
    versions = [await place.values.set("a", "k", b"1", None) for _ in range(3)]
    versions += await place.values.set_many("a", [("k", b"2"), ("l", b"2"), ("m", b"3")], None)
    assert await place.values.delete("a", "k")
    versions.append((await place.values.compare_and_set("a", "k", b"4", None, 0)).version)
    await place.values.clear("a")
    versions.append(await place.values.set("a", "k", b"5", None))
    await place.restart()
    versions.append(await place.values.set("a", "k", b"6", None))
    assert versions == sorted(set(versions))


async def test_a_value_expires_when_it_said(place: Place) -> None:
    """`expires` is the time of the set plus the TTL; from then on nothing finds the value, or deletes it."""
    before = await place.values.set("a", "old", b"", MINUTE)
    await place.values.set("a", "k", b"1", AMPLE)
    await place.values.set_many("a", [("l", b"2")], AMPLE)
    entry, reference = await place.values.get("a", "k"), await place.values.get("a", "old")
    assert entry is not None
    assert reference is not None
    assert entry.expires is not None
    assert reference.expires is not None
    assert abs(reference.expires - entry.expires - (MINUTE - AMPLE)) < 10**10  # they were not set at the same time
    assert reference.version == before
    await place.pass_time(AMPLE + 5 * 10**6)
    assert await place.values.get_many("a", ["k", "l", "old"]) == [None, None, reference]
    assert await place.values.delete_many("a", ["k", "l"]) == 0


async def test_the_shortest_ttl_is_one(place: Place) -> None:
    """A nanosecond is not nothing: the value is accepted, and gone soon after."""
    await place.values.set("a", "k", b"1", 1)
    await place.pass_time(5 * 10**6)
    assert await read(place.values, "k") is None


async def test_a_set_without_ttl_ends_the_ttl_before_it(place: Place) -> None:
    """The deadline of a value that was replaced does not end the new one, whether it was set or swapped."""
    _, version = [await place.values.set("a", key, b"1", AMPLE) for key in ("set", "swapped")]
    await place.values.set("a", "set", b"2", None)
    assert (await place.values.compare_and_set("a", "swapped", b"2", None, version)).swapped
    await place.pass_time(AMPLE + 10 * 10**6)
    assert [await read(place.values, key) for key in ("set", "swapped")] == [b"2", b"2"]


async def test_an_expired_value_counts_as_none_to_a_swap(place: Place) -> None:
    """Its version is no longer there to be expected; 0 is."""
    version = await place.values.set("a", "k", b"1", 10 * 10**6)
    await place.pass_time(15 * 10**6)
    assert await place.values.compare_and_set("a", "k", b"2", None, version) == Swap(False, 0)
    assert (await place.values.compare_and_set("a", "k", b"2", None, 0)).swapped


async def test_a_swap_needs_the_version_that_is_there(values: Values) -> None:
    """Any other version, also 0 where there is a value, changes nothing and is told what is there."""
    assert await values.compare_and_set("a", "k", b"1", None, 5) == Swap(False, 0)
    assert await read(values, "k") is None
    first = await values.compare_and_set("a", "k", b"1", MINUTE, 0)
    entry = await values.get("a", "k")
    assert entry is not None
    assert (first, entry.value) == (Swap(True, entry.version), b"1")
    assert entry.expires is not None
    for expected in (0, entry.version - 1, entry.version + 1, 2**63 - 1):
        assert await values.compare_and_set("a", "k", b"2", None, expected) == Swap(False, entry.version)
    second = await values.compare_and_set("a", "k", b"2", None, entry.version)
    assert second.swapped
    assert await values.get("a", "k") == Entry("k", b"2", second.version, None)


async def test_of_many_swaps_at_once_one_wins(values: Values) -> None:
    """Twenty loops that add one each end at twenty: nothing is lost between reading and swapping."""

    async def add_one() -> int:
        for attempt in range(1, 1000):
            entry = await values.get("a", "n")
            number, version = (0, 0) if entry is None else (int(entry.value), entry.version)
            if (await values.compare_and_set("a", "n", str(number + 1).encode(), None, version)).swapped:
                return attempt
        raise AssertionError("never swapped")

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert await read(values, "n") == b"20"


async def test_batches_keep_the_order_of_the_request(values: Values) -> None:
    """Hundreds of keys: each entry and each None is where its key was."""
    items = [(f"k{number}", f"v{number}".encode()) for number in range(300, 0, -1)]
    versions = await values.set_many("a", items, None)
    assert versions == sorted(set(versions))
    keys = [f"k{number}" for number in range(-10, 320)]
    found = await values.get_many("a", keys)
    expected = dict(items)
    assert [entry.value if entry else None for entry in found] == [expected.get(key) for key in keys]
    assert [entry.version for entry in found if entry] == versions[::-1]
    assert all(entry.key == key for key, entry in zip(keys, found, strict=True) if entry)


async def test_delete_tells_what_there_was(values: Values) -> None:
    """A key that was deleted is not there to be deleted."""
    await values.set_many("a", [(key, b"1") for key in ("x", "y", "z")], None)
    assert [await values.delete("a", "x") for _ in range(2)] == [True, False]
    assert await values.delete_many("a", ["x", "y", "none", "z"]) == 2


async def test_clear_forgets_all_of_a_namespace(values: Values) -> None:
    """However many they are and whatever their keys, and it counts them."""
    await values.set_many("a", [(f"k{number}", b"") for number in range(2500)], None)
    await values.set_many("a", [(key, b"") for key in KEYS], None)
    await values.set("b", "k", b"stays", None)
    assert await values.clear("a") == 2500 + len(KEYS)
    assert await values.get_many("a", ["k0", "k2499", *KEYS]) == [None] * (2 + len(KEYS))
    assert await read(values, "k", "b") == b"stays"


async def test_stats_count_what_was_asked(values: Values) -> None:
    """Hits, misses, sets and deletes of each namespace; a swap that fails is no set, and reads nothing."""
    version = await values.set("a", "k", b"1", None)
    await values.compare_and_set("a", "k", b"2", None, version)
    await values.compare_and_set("a", "k", b"3", None, version)
    await values.set_many("a", [("x", b""), ("y", b"")], None)
    await values.get("a", "k")
    await values.get_many("a", ["k", "x", "none"])
    await values.delete("a", "x")
    await values.delete("a", "x")
    await values.clear("a")
    stats = await values.stats()
    assert list(stats) == ["a", "b"]
    counts = stats["a"]
    assert (counts.hits, counts.misses, counts.sets, counts.deletes) == (3, 1, 4, 3)
    counts = stats["b"]
    assert (counts.hits, counts.misses, counts.sets, counts.deletes) == (0, 0, 0, 0)


async def test_calls_at_once_answer_their_own_callers(values: Values) -> None:
    """More calls at a time than there are connections: each gets the value of its key."""
    await values.set_many("a", [(f"k{number}", str(number).encode()) for number in range(200)], None)
    found = await asyncio.gather(*(read(values, f"k{number}") for number in range(200)))
    assert found == [str(number).encode() for number in range(200)]
