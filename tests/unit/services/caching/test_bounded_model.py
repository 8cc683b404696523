"""Whatever is asked of a bounded store, and however time goes, it does what the reference does; faults are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

import cachetools
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shop_services.caching.bounded import Bounded, Policy
from shop_services.caching.counts import MISS, Miss
from shop_services.caching.deadlines import Entry
from shop_services.caching.errors import ValueTooLarge
from tests.unit.services.caching.reference import Reference

Value = tuple[int, int]
"""A number, and the bytes that it counts for."""

KEYS = st.sampled_from("abcdefg")
TTLS = st.one_of(st.none(), st.integers(1, 9).map(float))
SIZES = st.integers(0, 9)
MAX_BYTES = 8


def size_of(key: str, value: Value) -> int:
    return value[1]


class Machine(RuleBasedStateMachine):
    """Asks both the same, and compares what they answer, hold and count."""

    policy: ClassVar[Policy]
    kind: ClassVar[type[Bounded[Value]]] = Bounded

    @initialize(entries=st.integers(1, 6), limited=st.booleans())
    def begin(self, entries: int, limited: bool) -> None:
        self.now = 0.0
        self.number = 0
        limit = MAX_BYTES if limited else None
        self.real = self.kind(
            self.policy, max_entries=entries, max_bytes=limit, size_of=size_of, clock=lambda: self.now
        )
        self.reference = Reference(self.policy, entries, limit, lambda: self.now)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        self.reference.begin()
        assert number(self.real.get(key)) == self.reference.get(key)

    @rule(key=KEYS)
    def peek(self, key: str) -> None:
        self.reference.begin()
        assert number(self.real.peek(key)) == self.reference.peek(key)

    @rule(key=KEYS)
    def touch(self, key: str) -> None:
        self.reference.begin()
        assert self.real.touch(key) == self.reference.touch(key)

    @rule(key=KEYS, size=SIZES, ttl=TTLS)
    def set(self, key: str, size: int, ttl: float | None) -> None:
        self.reference.begin()
        value = self.value(size)
        assert self.unless_too_large(self.real.set, key, value, ttl) is (
            None if self.reference.set(key, *value, ttl) else ValueTooLarge
        )

    @rule(key=KEYS, size=SIZES, ttl=TTLS)
    def add(self, key: str, size: int, ttl: float | None) -> None:
        self.reference.begin()
        value = self.value(size)
        expected = self.reference.add(key, *value, ttl)
        added = self.unless_too_large(self.real.add, key, value, ttl)
        assert added is (ValueTooLarge if expected is None else expected)

    @rule(key=KEYS, size=SIZES)
    def replace(self, key: str, size: int) -> None:
        self.reference.begin()
        value = self.value(size)
        expected = self.reference.replace(key, *value)
        assert self.unless_too_large(self.real.replace, key, value) is (ValueTooLarge if expected is None else expected)

    @rule(key=KEYS, ttl=TTLS)
    def expire(self, key: str, ttl: float | None) -> None:
        self.reference.begin()
        assert self.real.expire(key, ttl) == self.reference.expire(key, ttl)

    @rule(key=KEYS)
    def ttl(self, key: str) -> None:
        self.reference.begin()
        row = self.reference.row(key)
        expected = MISS if row is None else None if row.deadline is None else row.deadline - self.now
        assert self.real.ttl(key) == expected

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.reference.begin()
        assert self.real.delete(key) == self.reference.delete(key)

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.reference.begin()
        assert self.real.discard(key) == self.reference.discard(key)

    @rule()
    def clear(self) -> None:
        self.reference.begin()
        assert self.real.clear() == self.reference.clear()

    @rule(at_most=st.integers(0, 3))
    def forget_expired(self, at_most: int) -> None:
        self.reference.begin()
        held = len(self.real)
        forgotten = self.real.forget_expired(at_most)
        assert forgotten == min(at_most, held - len(self.reference.rows))

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def both_hold_the_same(self) -> None:
        self.reference.begin()
        entries = self.entries()
        live = {
            entry.key: (*entry.value, entry.deadline if entry.place else None)
            for entry in entries
            if not entry.place or entry.deadline > self.now
        }
        assert live == {row.key: (row.value, row.size, row.deadline) for row in self.reference.rows}

    @invariant()
    def both_count_the_same(self) -> None:
        """What is over and not forgotten yet is the only difference."""
        counts, expected = self.real.counts(), self.reference.counts()
        assert counts.entries is not None
        assert counts.expirations is not None
        assert expected.entries is not None
        forgotten = replace(
            counts,
            expirations=counts.expirations + counts.entries - expected.entries,
            entries=expected.entries,
            bytes=expected.bytes,
        )
        assert forgotten == expected

    @invariant()
    def the_limits_hold(self) -> None:
        assert len(self.real) <= self.real.max_entries
        assert self.real.max_bytes is None or (self.real.counts().bytes or 0) <= self.real.max_bytes

    @invariant()
    def an_entry_that_is_gone_leaves_no_deadline(self) -> None:
        timed = sum(bool(entry.place) for entry in self.entries())
        assert len(self.real._deadlines) == timed

    def teardown(self) -> None:
        """When all that is over is forgotten, nothing differs."""
        if hasattr(self, "real"):
            self.reference.begin()
            self.real.forget_expired(1000)
            assert self.real.counts() == self.reference.counts()

    def entries(self) -> list[Entry[Value]]:
        """What is inside, without using or forgetting it."""
        return [cachetools.Cache.__getitem__(self.real._entries, key) for key in self.real._entries]

    def value(self, size: int) -> Value:
        self.number += 1
        return self.number, size

    @staticmethod
    def unless_too_large(call: Any, *arguments: object) -> object:
        try:
            return call(*arguments)
        except ValueTooLarge:
            return ValueTooLarge


def number(value: Value | Miss) -> int | Miss:
    return MISS if value is MISS else value[0]


class LruMachine(Machine):
    policy = "lru"


class LfuMachine(Machine):
    policy = "lfu"


class FifoMachine(Machine):
    policy = "fifo"


TestLru = LruMachine.TestCase
TestLfu = LfuMachine.TestCase
TestFifo = FifoMachine.TestCase
TestLru.settings = TestLfu.settings = TestFifo.settings = settings(stateful_step_count=50, max_examples=50)


def drive(machine: Machine, rng: Random, steps: int) -> None:
    """The machine's own steps by a die: no search for the least example, and a hundred times as fast."""

    def some_ttl() -> float | None:
        return rng.choice([None, float(rng.randint(1, 9))])

    often: list[Callable[[str], None]] = [
        machine.get,
        lambda key: machine.set(key, rng.randint(0, 9), some_ttl()),
        lambda key: machine.add(key, rng.randint(0, 9), some_ttl()),
        lambda key: machine.replace(key, rng.randint(0, 9)),
        lambda key: machine.expire(key, some_ttl()),
        lambda key: machine.wait(rng.randint(0, 6)),
    ]
    seldom: list[Callable[[str], None]] = [
        machine.peek,
        machine.ttl,
        machine.touch,
        machine.delete,
        machine.discard,
        lambda key: machine.clear(),
        lambda key: machine.forget_expired(rng.randint(0, 3)),
    ]
    machine.begin(rng.randint(1, 6), rng.random() < 0.5)
    for _ in range(steps):
        rng.choice(often if rng.random() < 0.9 else seldom)(rng.choice("abcdefg"))
        machine.both_hold_the_same()
        machine.both_count_the_same()
        machine.the_limits_hold()
        machine.an_entry_that_is_gone_leaves_no_deadline()
    machine.teardown()


@pytest.mark.parametrize("kind", [LruMachine, LfuMachine, FifoMachine])
def test_long_histories(kind: type[Machine]) -> None:
    """A hundred stores do what the reference does for two hundred calls each."""
    rng = Random(2)
    for _ in range(100):
        drive(kind(), rng, 200)


class OfAnotherPolicy(Bounded[Value]):
    """Says one policy and evicts by another: a use that does not count, a tie that is broken otherwise."""

    inside: ClassVar[Any]

    def __init__(self, policy: Policy = "lru", **options: Any) -> None:
        super().__init__(policy, **options)
        self._entries = self.inside(options["max_entries"])


class LruByCreation(OfAnotherPolicy):
    inside = cachetools.FIFOCache


class LfuByRecency(OfAnotherPolicy):
    inside = cachetools.LRUCache


class _InsertionLfu(cachetools.LFUCache[str, Any]):
    """Ties go by creation: a key that is alone with its frequency never moves behind one that came later."""

    def popitem(self) -> tuple[str, Any]:
        uses = {key: link.count for key, link in self._LFUCache__links.items()}  # type: ignore[attr-defined]
        key = min(uses, key=lambda key: uses[key])  # of equals the first that came
        return key, self.pop(key)


class LfuTiesByCreation(OfAnotherPolicy):
    inside = _InsertionLfu


class FifoByUse(OfAnotherPolicy):
    inside = cachetools.LRUCache


class LiveBeforeExpired(Bounded[Value]):
    def _forget(self, now: float, at_most: int = 0) -> int:
        return super()._forget(now, at_most)


class OldDeadlineStays(Bounded[Value]):
    def set(self, key: str, value: Value, ttl: float | None = None) -> None:
        if ttl is None:
            self._put(key, value, self._clock())
        else:
            super().set(key, value, ttl)


class TooManyByOne(Bounded[Value]):
    def __init__(self, policy: Policy = "lru", *, max_bytes: int | None = None, **options: Any) -> None:
        super().__init__(policy, max_bytes=None if max_bytes is None else max_bytes + 1, **options)


class PeekIsAUse(Bounded[Value]):
    def peek(self, key: str) -> Value | Miss:
        self.touch(key)
        return super().peek(key)


@pytest.mark.parametrize(
    ("policy", "faulty"),
    [
        ("lru", LruByCreation),
        ("lfu", LfuByRecency),
        ("lfu", LfuTiesByCreation),
        ("fifo", FifoByUse),
        ("lru", LiveBeforeExpired),
        ("lru", OldDeadlineStays),
        ("fifo", TooManyByOne),
        ("lru", PeekIsAUse),
        ("lfu", PeekIsAUse),
    ],
)
def test_a_fault_is_found(policy: Policy, faulty: type[Bounded[Value]]) -> None:
    """The machine tells a store that does nearly the same from one that does the same."""
    machine: type[Machine] = type("Faulty", (Machine,), {"policy": policy, "kind": faulty})
    rng = Random(3)
    with pytest.raises(AssertionError):  # noqa: PT012
        for _ in range(100):
            drive(machine(), rng, 200)
