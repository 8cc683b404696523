"""Values in the memory of this process: for each namespace one bounded store with its policy and limits.

A call that keeps or forgets one value does it without waiting for anything, so that no other call comes in between:
that is what makes `compare_and_set` whole. What takes long, over many values, is done in steps that let others in.

Versions are the clock's microseconds, or one more than the last of any key where that is greater. So a key's version
grows across deletes and evictions without a memory of the dead; across restarts; and, as far as clocks agree, from one
instance to the next that has the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from shop_services.cache.domain import Entry, Namespace, Swap, size
from shop_services.caching.bounded import Bounded
from shop_services.caching.counts import MISS, Counts

_STEP = 200
"""How many entries are looked at before others have their turn: about a millisecond."""


class MemoryValues:
    """`Values` here. `clock` gives nanoseconds since the Unix epoch and never goes back."""

    def __init__(self, namespaces: Iterable[Namespace], clock: Callable[[], int]) -> None:
        self._clock = clock
        self._version = clock() // 1000
        start = clock()
        self._stores = {
            space.name: _store(space, lambda: (clock() - start) / 1e9)
            for space in sorted(namespaces, key=lambda space: space.name)
        }

    def __repr__(self) -> str:
        return f"<MemoryValues {', '.join(f'{name}: {len(store)}' for name, store in self._stores.items())}>"

    async def get(self, namespace: str, key: str) -> Entry | None:
        return self._get(self._stores[namespace], key)

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        store = self._stores[namespace]
        return [self._get(store, key) for key in keys]

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        return self._set(self._stores[namespace], key, value, ttl)

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        store = self._stores[namespace]
        return [self._set(store, key, value, ttl) for key, value in items]

    async def compare_and_set(self, namespace: str, key: str, value: bytes, ttl: int | None, expected: int) -> Swap:
        entry = self.peek(namespace, key)
        present = 0 if entry is None else entry.version
        if present != expected:
            return Swap(False, present)
        return Swap(True, self._set(self._stores[namespace], key, value, ttl))

    async def delete(self, namespace: str, key: str) -> bool:
        return self._stores[namespace].delete(key)

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        store = self._stores[namespace]
        return sum(store.delete(key) for key in keys)

    async def clear(self, namespace: str) -> int:
        store = self._stores[namespace]
        await _forget_expired(store)
        return store.clear()

    async def stats(self) -> Mapping[str, Counts]:
        for store in self._stores.values():
            await _forget_expired(store)
        return self.counts()

    def counts(self) -> Mapping[str, Counts]:
        """As `stats`, but some of the entries whose time is over may still be counted."""
        return {name: store.counts() for name, store in self._stores.items()}

    @property
    def version(self) -> int:
        """The last version that was given; what is set from now on has a greater one."""
        return self._version

    def peek(self, namespace: str, key: str) -> Entry | None:
        """The entry of `key`, neither counted nor used."""
        entry = self._stores[namespace].peek(key)
        return None if entry is MISS else entry

    def discard(self, namespace: str, key: str) -> bool:
        """Forget the value of `key` without counting it as deleted. Returns whether there was one."""
        return self._stores[namespace].discard(key)

    async def retain(self, wanted: Callable[[str, Entry], bool]) -> int:
        """Discard the entries of which, with their namespace, `wanted` says no. Returns how many.

        It looks at those that there are when it begins, some at a time: those set meanwhile it may leave.
        """
        discarded = 0
        for name, store in self._stores.items():
            for number, key in enumerate(store.keys(), start=1):
                entry = store.peek(key)
                if entry is not MISS and not wanted(name, entry):
                    discarded += store.discard(key)
                if number % _STEP == 0:
                    await asyncio.sleep(0)
        return discarded

    def _get(self, store: Bounded[Entry], key: str) -> Entry | None:
        entry = store.get(key)
        return None if entry is MISS else entry

    def _set(self, store: Bounded[Entry], key: str, value: bytes, ttl: int | None) -> int:
        self._version = max(self._version + 1, self._clock() // 1000)
        if ttl is None:
            store.set(key, Entry(key, value, self._version, None))
        else:
            store.set(key, Entry(key, value, self._version, self._clock() + ttl), ttl / 1e9)
        return self._version


def _store(space: Namespace, clock: Callable[[], float]) -> Bounded[Entry]:
    if space.policy is None:
        raise ValueError(f"the namespace {space.name!r} has no policy")
    return Bounded(
        space.policy,
        max_entries=space.max_entries,
        max_bytes=space.max_bytes,
        size_of=lambda key, entry: size(key, entry.value),
        clock=clock,
    )


async def _forget_expired(store: Bounded[Entry]) -> None:
    """Forget all entries whose time is over, so that none of them is counted as being there."""
    for _ in range(len(store) // _STEP + 1):
        if store.forget_expired(_STEP) < _STEP:
            break
        await asyncio.sleep(0)
