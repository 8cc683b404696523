"""A source of texts with a history, who follows its changes, and a shared cache with every fault that one can have."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from shop_services.caching.backend import MISS, BytesSerializer
from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Copy
from shop_services.caching.errors import CacheError, CacheUnavailable
from shop_services.caching.memory import MemoryCache
from shop_services.caching.reading import ReadThrough
from tests.unit.services.caching.virtual_time import now


class Texts:
    """A codec of texts."""

    def dumps(self, value: str) -> bytes:
        return value.encode()

    def loads(self, data: bytes) -> str:
        return data.decode()


class Source:
    """Texts by key, each change of any of them numbered. A load takes `seconds`, and reads in the middle of them."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.revision = 0
        self.changed: dict[str, list[int]] = defaultdict(list)
        self.loads: list[list[str]] = []
        self.error: Exception | None = None
        self._texts: dict[tuple[str, int], str | None] = {}

    def change(self, key: str, *, gone: bool = False) -> int:
        """Give `key` a new text, or none. Returns the number of the change."""
        self.revision += 1
        self.changed[key].append(self.revision)
        self._texts[key, self.revision] = None if gone else f"{key} of {self.revision}"
        return self.revision

    def latest(self, key: str) -> int:
        """The number of the key's latest change; 0: there is none."""
        return self.changed[key][-1] if self.changed[key] else 0

    def text(self, key: str, as_of: int) -> str | None:
        """What `key` had right after that change of any key."""
        latest = max((number for number in self.changed[key] if number <= as_of), default=0)
        return self._texts[key, latest] if latest else None

    def copy(self, key: str) -> Copy[str]:
        return Copy(self.text(key, self.revision), self.revision)

    async def load_many(self, keys: Sequence[str]) -> Mapping[str, Copy[str]]:
        self.loads.append(list(keys))
        await asyncio.sleep(self.seconds / 2)
        copies = {key: self.copy(key) for key in keys}
        await asyncio.sleep(self.seconds / 2)
        if self.error is not None:
            raise self.error
        return copies

    async def load(self, key: str) -> Copy[str]:
        return (await self.load_many([key]))[key]


class Follower:
    """What one process knows of the source's changes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.known: dict[str, int] = {}
        self.blind = False

    def catch_up(self) -> None:
        self.known = {key: self.source.latest(key) for key in self.source.changed}

    def is_current(self, key: str, as_of: int) -> bool:
        return not self.blind and self.known.get(key, 0) <= as_of


class Faulty(MemoryCache):
    """A shared cache of bytes that takes `seconds` an answer, and does what its attributes say."""

    def __init__(self) -> None:
        super().__init__(max_entries=1000, serializer=BytesSerializer(), clock=now, max_value=1024 * 1024)
        self.seconds = 0.001
        self.down = False
        self.refusal: CacheError | None = None  # is what it says to everything
        self.garbage: bytes | None = None  # is what it returns for every key that it has
        self.deaf = False  # it answers, and forgets to do what it was told
        self.late = 0.0  # so many seconds after its answer it does what it was told
        self.calls: list[str] = []

    def named(self, call: str) -> int:
        """How many calls there were of this name."""
        return self.calls.count(call)

    async def _answer(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(self.seconds)
        if self.down:
            raise CacheUnavailable("down")
        if self.refusal is not None:
            raise self.refusal

    async def _get(self, key: str) -> Any:
        await self._answer("get")
        return self._stored(key)

    async def _multi_get(self, keys: list[str]) -> list[Any]:
        await self._answer("multi_get")
        return [self._stored(key) for key in keys]

    async def get_or_miss(self, key: str) -> Any:
        return self._loaded(await self._get(self.build_key(key)))

    async def _set(self, key: str, value: Any, ttl: float | None, _cas_token: Any = None) -> bool:
        await self._answer("set")
        self._do(key, value, ttl)
        return True

    async def _multi_set(self, pairs: list[tuple[str, Any]], ttl: float | None) -> None:
        await self._answer("multi_set")
        for key, value in pairs:
            self._do(key, value, ttl)

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: object = None) -> None:
        await self._answer("add")
        await super()._add(key, value, ttl)

    async def _delete(self, key: str) -> int:
        await self._answer("delete")
        return 0 if self.deaf else await super()._delete(key)

    def _stored(self, key: str) -> Any:
        found = self._store.get(key)
        return found if found is MISS or self.garbage is None else self.garbage

    def _do(self, key: str, value: bytes, ttl: float | None) -> None:
        if self.late:
            asyncio.get_running_loop().call_later(self.late, self._store.set, key, value, ttl)
        elif not self.deaf:
            self._store.set(key, value, ttl)


def reading(
    follower: Follower, shared: Faulty | None, *, seed: int = 1, local: Bounded[Copy[str]] | bool = True, **options: Any
) -> ReadThrough[str]:
    """What one process reads through, in virtual time."""
    settings: dict[str, Any] = {"ttl": 60.0, "negative_ttl": 5.0, "clock": now, "wall": lambda: 1e9 + now()} | options
    return ReadThrough(
        "texts",
        local=(Bounded("lru", max_entries=1000, clock=now) if local else None) if isinstance(local, bool) else local,
        shared=shared,
        codec=Texts(),
        is_current=follower.is_current,
        rng=Random(seed),
        **settings,
    )
