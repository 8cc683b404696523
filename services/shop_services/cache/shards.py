"""The values of all instances together: each has its share of the keys, and passes on what is another's.

Callers that know the ring (`caching.service`) ask the owner of a key, and nothing is passed on. Others, such as the
gateway, may ask anybody. A batch goes to its owners in parallel. The keys of an owner that cannot be asked are missed,
and what should be written there fails, unless the ring has found them another owner meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from shop_services.cache.backend import Values
from shop_services.cache.domain import Entry, Swap
from shop_services.cache.neighbours import Neighbours
from shop_services.cache.peers import Late, Peers
from shop_services.cache.share import Share
from shop_services.caching.counts import Counts
from shop_services.runtime.errors import Unavailable

_TRIES = 3
_PAUSE_SECONDS = 0.02
"""Between tries: an instance that died has left the ring by then, as soon as its connections broke."""

R = TypeVar("R")
Place = Values | Peers


class Shards:
    """`Values` of all instances; `local` are those of this one, and its `share` of the keys says which that are."""

    def __init__(self, share: Share, local: Values, peers: Peers, neighbours: Neighbours) -> None:
        self._share = share
        self._local = local
        self._peers = peers
        self._neighbours = neighbours

    async def get(self, namespace: str, key: str) -> Entry | None:
        with suppress(Unavailable):
            return await self._one(namespace, key, lambda place: place.get(namespace, key))
        return None

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        async def get(place: Place, some: Sequence[int]) -> list[Entry | None]:
            return await place.get_many(namespace, [keys[each] for each in some])

        found, _ = await self._many(namespace, keys, get)
        return [found.get(each) for each in range(len(keys))]

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        return await self._one(namespace, key, lambda place: place.set(namespace, key, value, ttl))

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        async def set_(place: Place, some: Sequence[int]) -> list[int]:
            return await place.set_many(namespace, [items[each] for each in some], ttl)

        versions, failure = await self._many(namespace, [key for key, _ in items], set_)
        if failure is not None:
            raise failure
        return [versions[each] for each in range(len(items))]

    async def compare_and_set(self, namespace: str, key: str, value: bytes, ttl: int | None, expected: int) -> Swap:
        # Tried once: a second try would take the first one's success for somebody else's.
        place: Place = self._local if self._share.owner(namespace, key) is None else self._peers
        return await place.compare_and_set(namespace, key, value, ttl, expected)

    async def delete(self, namespace: str, key: str) -> bool:
        return await self._one(namespace, key, lambda place: place.delete(namespace, key))

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        async def delete(place: Place, some: Sequence[int]) -> list[int]:
            return [await place.delete_many(namespace, [keys[each] for each in some])] + [0] * (len(some) - 1)

        removed, failure = await self._many(namespace, keys, delete)
        if failure is not None:
            raise failure
        return sum(removed.values())

    async def clear(self, namespace: str) -> int:
        """As `Values` has it; every instance clears its own, draining ones too. Raises `Unavailable` if one did not."""
        others = self._neighbours.others
        cleared = await asyncio.gather(
            self._local.clear(namespace),
            *(self._peers.clear(namespace, other) for other in others),
            return_exceptions=True,
        )
        left = [one.address for one, what in zip(others, cleared[1:], strict=True) if isinstance(what, BaseException)]
        if left:
            raise Unavailable(f"{namespace!r} is cleared, but perhaps not on the instance at {' and '.join(left)}")
        return sum(what for what in cleared if isinstance(what, int))

    async def stats(self) -> Mapping[str, Counts]:
        return await self._local.stats()

    async def _one(self, namespace: str, key: str, act: Callable[[Place], Awaitable[R]]) -> R:
        """What `act` returns where the key is. Raises `Unavailable`."""
        tries = 0
        while self._share.owner(namespace, key) is not None:
            tries += 1
            try:
                return await act(self._peers)
            except Unavailable as error:
                if tries == _TRIES or isinstance(error, Late):
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)
        return await act(self._local)

    async def _many(
        self, namespace: str, keys: Sequence[str], act: Callable[[Place, Sequence[int]], Awaitable[list[R]]]
    ) -> tuple[dict[int, R], Unavailable | None]:
        """What `act` returns for the numbers of one owner's keys, by number; and why there is not a result for each."""
        results: dict[int, R] = {}
        left: Sequence[int] = range(len(keys))
        given_up: Unavailable | None = None
        for tries in range(1, _TRIES + 1):
            groups = self._by_owner(namespace, keys, left)
            acts = (act(self._local if owner is None else self._peers, some) for owner, some in groups.items())
            done = await asyncio.gather(*acts, return_exceptions=True)
            left = []
            for some, what in zip(groups.values(), done, strict=True):
                if isinstance(what, Unavailable):
                    given_up = what
                    left += [] if isinstance(what, Late) else some
                elif isinstance(what, BaseException):
                    raise what
                else:
                    results.update(zip(some, what, strict=True))
            if not left or tries == _TRIES:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return results, given_up if len(results) < len(keys) else None

    def _by_owner(self, namespace: str, keys: Sequence[str], some: Iterable[int]) -> dict[str | None, list[int]]:
        groups: dict[str | None, list[int]] = {}
        for each in some:
            owner = self._share.owner(namespace, keys[each])
            groups.setdefault(None if owner is None else owner.id, []).append(each)
        return groups
