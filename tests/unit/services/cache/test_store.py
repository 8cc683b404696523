"""The store keeps, forgets and counts as a simple model does, whatever is asked of it and however time goes."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shop_services.cache.domain import Counts, Limits
from shop_services.cache.store import Store
from shop_services.runtime.errors import ResourceExhausted


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self, now: int = 1_700_000_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def store(*, entries: int = 100, size: int = 10_000, namespaces: int = 10, clock: Clock | None = None) -> Store:
    return Store(Limits(entries=entries, bytes=size, namespaces=namespaces), clock or Clock())


def value(s: Store, namespace: str, key: str) -> bytes | None:
    entry = s.get(namespace, key)
    return None if entry is None else entry.value


def test_a_value_is_kept_by_namespace_and_key() -> None:
    """One key in two namespaces holds two values."""
    s = store()
    s.set("a", "k", b"1")
    s.set("b", "k", b"2")
    assert (value(s, "a", "k"), value(s, "b", "k"), value(s, "a", "other")) == (b"1", b"2", None)


def test_a_value_is_gone_at_the_end_of_its_ttl_and_not_before() -> None:
    """The last nanosecond of a TTL still has the value; the next has not."""
    clock = Clock()
    s = store(clock=clock)
    s.set("a", "k", b"1", ttl=10)
    clock.now += 9
    assert value(s, "a", "k") == b"1"
    clock.now += 1
    assert value(s, "a", "k") is None
    assert s.stats()["a"] == Counts(sets=1, hits=1, misses=1, expirations=1)


def test_a_set_without_ttl_ends_the_ttl_before_it() -> None:
    """The deadline of a value that was replaced does not end the new one."""
    clock = Clock()
    s = store(clock=clock)
    s.set("a", "k", b"1", ttl=10)
    s.set("a", "k", b"2")
    clock.now += 100
    assert value(s, "a", "k") == b"2"


def test_versions_grow_over_delete_eviction_and_restart() -> None:
    """No key is ever given a version that it had before, even by a new store on the same clock."""
    clock = Clock()
    s = store(entries=1, clock=clock)
    versions = [s.set("a", "k", b"1")]
    s.delete("a", "k")
    versions.append(s.set("a", "k", b"1"))
    s.set("a", "other", b"evicts k")
    versions.append(s.set("a", "k", b"1"))
    clock.now += 1_000_000
    versions.append(store(clock=clock).set("a", "k", b"1"))
    assert versions == sorted(set(versions))


def test_the_least_recently_used_goes_first() -> None:
    """A get makes an entry recent; the one not asked for is evicted, of whatever namespace."""
    s = store(entries=2)
    s.set("a", "old", b"1")
    s.set("b", "older", b"2")
    s.get("a", "old")
    s.set("a", "new", b"3")
    assert (value(s, "a", "old"), value(s, "b", "older"), value(s, "a", "new")) == (b"1", None, b"3")
    assert s.stats()["b"].evictions == 1


def test_expired_entries_go_before_live_ones() -> None:
    """Room is made from what is dead already, even if it was used last."""
    clock = Clock()
    s = store(entries=40, clock=clock)
    s.set("a", "live", b"1")
    for i in range(39):
        s.set("a", f"dying{i}", b"2", ttl=10)
    clock.now += 10
    s.set("a", "new", b"3")
    assert value(s, "a", "live") == b"1"
    assert s.stats()["a"].evictions == 0


def test_a_large_value_makes_room_for_itself() -> None:
    """The bound on bytes holds over keys and values, and evicts as many as it takes."""
    s = store(size=10)
    for key in "abc":
        s.set("n", key, b"12")  # 3 bytes each
    s.set("n", "d", b"12345")  # 6 bytes
    assert [value(s, "n", key) for key in "abcd"] == [None, None, b"12", b"12345"]
    assert s.stats()["n"].bytes == 9


def test_a_value_larger_than_the_store_changes_nothing() -> None:
    """It is refused with its size, and the older value stays."""
    s = store(size=10)
    s.set("n", "k", b"1")
    with pytest.raises(ValueError, match=r"11 bytes with its key; the whole store holds 10"):
        s.set("n", "k", b"1234567890")
    assert value(s, "n", "k") == b"1"


def test_a_namespace_beyond_the_bound_takes_the_place_of_an_empty_one_or_is_refused() -> None:
    """Names made up by a caller cannot fill the memory: counts of empty namespaces give way, values do not."""
    s = store(namespaces=2)
    s.set("full", "k", b"1")
    s.get("empty", "k")
    s.set("another", "k", b"1")
    assert list(s.stats()) == ["another", "full"]
    with pytest.raises(ResourceExhausted, match="'third'"):
        s.get("third", "k")


def test_clear_forgets_one_namespace_only() -> None:
    """Clear counts the live values it forgot, and leaves the others."""
    clock = Clock()
    s = store(clock=clock)
    s.set("a", "1", b"")
    s.set("a", "2", b"", ttl=1)
    s.set("b", "1", b"")
    clock.now += 1
    assert s.clear("a") == 1
    assert s.clear("unknown") == 0
    assert (value(s, "a", "1"), value(s, "b", "1")) == (None, b"")


def test_replaced_deadlines_do_not_pile_up() -> None:
    """A key set over and over with a TTL leaves no trail in memory."""
    s = store()
    for _ in range(10_000):
        s.set("a", "k", b"1", ttl=10**12)
    assert len(s._deadlines) < 100


@pytest.mark.parametrize("field", ["entries", "bytes", "namespaces"])
def test_a_limit_below_one_is_refused(field: str) -> None:
    """A limit that nothing fits in is an error that names it."""
    with pytest.raises(ValueError, match=rf"^{field} 0: at least 1"):
        Limits(**{"entries": 1, "bytes": 1, "namespaces": 1, field: 0})


KEYS = st.sampled_from(["a", "b", "cc", "ß"])
NAMESPACES = st.sampled_from(["x", "y", "z"])


class StoreBesideModel(RuleBasedStateMachine):
    """The model keeps a list by recency and looks at every entry each time: slow, and plainly right."""

    @initialize(entries=st.integers(1, 6), size=st.integers(3, 30))
    def begin(self, entries: int, size: int) -> None:
        self.clock = Clock()
        self.limits = Limits(entries=entries, bytes=size, namespaces=2)
        self.store = Store(self.limits, self.clock)
        self.live: list[tuple[str, str, bytes, int, int | None]] = []  # the least recently used first
        self.counts: dict[str, Counts] = {}
        self.newest = 0

    def forget_expired(self) -> None:
        for entry in list(self.live):
            if entry[4] is not None and entry[4] <= self.clock.now:
                self.live.remove(entry)
                self.counts[entry[0]].expirations += 1

    def open(self, namespace: str) -> bool:
        self.forget_expired()
        if namespace not in self.counts and len(self.counts) >= self.limits.namespaces:
            empty = [name for name in self.counts if not any(e[0] == name for e in self.live)]
            if not empty:
                return False
            del self.counts[empty[0]]
        self.counts.setdefault(namespace, Counts())
        return True

    def find(self, namespace: str, key: str) -> tuple[str, str, bytes, int, int | None] | None:
        self.forget_expired()
        return next((e for e in self.live if e[:2] == (namespace, key)), None)

    @rule(namespace=NAMESPACES, key=KEYS, content=st.binary(max_size=12), ttl=st.none() | st.integers(1, 50))
    def set(self, namespace: str, key: str, content: bytes, ttl: int | None) -> None:
        need = len(key.encode()) + len(content)
        if need > self.limits.bytes:
            with pytest.raises(ValueError, match="the whole store holds"):
                self.store.set(namespace, key, content, ttl)
            return
        if not self.open(namespace):
            with pytest.raises(ResourceExhausted):
                self.store.set(namespace, key, content, ttl)
            return
        version = self.store.set(namespace, key, content, ttl)
        assert version > self.newest
        self.newest = version
        self.live = [e for e in self.live if e[:2] != (namespace, key)]
        self.live.append((namespace, key, content, version, None if ttl is None else self.clock.now + ttl))
        self.counts[namespace].sets += 1
        while len(self.live) > self.limits.entries or self.size() > self.limits.bytes:
            self.counts[self.live.pop(0)[0]].evictions += 1

    @rule(namespace=NAMESPACES, key=KEYS)
    def get(self, namespace: str, key: str) -> None:
        if not self.open(namespace):
            with pytest.raises(ResourceExhausted):
                self.store.get(namespace, key)
            return
        expected, entry = self.find(namespace, key), self.store.get(namespace, key)
        if expected is None:
            assert entry is None
            self.counts[namespace].misses += 1
        else:
            assert entry is not None
            assert (entry.namespace, entry.key, entry.value, entry.version, entry.expires) == expected
            self.counts[namespace].hits += 1
            self.live.remove(expected)
            self.live.append(expected)

    @rule(namespace=NAMESPACES, key=KEYS)
    def delete(self, namespace: str, key: str) -> None:
        expected = self.find(namespace, key)
        assert self.store.delete(namespace, key) == (expected is not None)
        if expected is not None:
            self.live.remove(expected)
            self.counts[namespace].deletes += 1

    @rule(namespace=NAMESPACES)
    def clear(self, namespace: str) -> None:
        self.forget_expired()
        gone = [e for e in self.live if e[0] == namespace]
        assert self.store.clear(namespace) == len(gone)
        self.live = [e for e in self.live if e[0] != namespace]
        if gone:
            self.counts[namespace].deletes += len(gone)

    @rule(step=st.integers(1, 60))
    def wait(self, step: int) -> None:
        self.clock.now += step

    @rule(namespace=st.none() | NAMESPACES)
    def stats(self, namespace: str | None) -> None:
        self.forget_expired()
        for name, counts in self.counts.items():
            counts.entries = sum(e[0] == name for e in self.live)
            counts.bytes = sum(len(e[1].encode()) + len(e[2]) for e in self.live if e[0] == name)
        expected = {name: asdict(c) for name, c in self.counts.items() if namespace in (None, name)}
        found = self.store.stats(namespace)
        assert {name: asdict(c) for name, c in found.items()} == expected
        assert list(found) == sorted(found)

    def size(self) -> int:
        return sum(len(e[1].encode()) + len(e[2]) for e in self.live)

    @invariant()
    def is_within_its_limits(self) -> None:
        if hasattr(self, "store"):
            assert len(self.store._by_use) <= self.limits.entries
            assert self.store._bytes <= self.limits.bytes
            assert len(self.store._namespaces) <= self.limits.namespaces
            assert len(self.store._deadlines) <= 2 * self.limits.entries + 65


TestStoreBesideModel = StoreBesideModel.TestCase
TestStoreBesideModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
