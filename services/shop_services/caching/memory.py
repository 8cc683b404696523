"""A cache in the memory of the process, for Python objects as they are: what it returns is what was given, no copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from aiocache.plugins import BasePlugin  # type: ignore[import-untyped]
from aiocache.serializers import BaseSerializer, NullSerializer  # type: ignore[import-untyped]

from shop_services.caching.arguments import check_key, whole_number
from shop_services.caching.backend import MISS, SENTINEL, Backend
from shop_services.caching.bounded import Bounded, Policy
from shop_services.caching.counts import Counts
from shop_services.caching.errors import KeyExists

_AS_IT_IS = NullSerializer()


def size_of(key: str, value: Any) -> int:
    """How many bytes a key as UTF-8 and its value take. Raises `TypeError` for values other than bytes and text."""
    if isinstance(value, str):
        value = value.encode()
    elif not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"the value of {key!r}: bytes or str, not {type(value).__name__}, unless there is a size_of")
    return len(key if key.isascii() else key.encode()) + len(value)


class MemoryCache(Backend):
    """A `Bounded` as a cache: `policy`, limits, `size_of` and `clock` are its; `max_value` as in `Backend`.

    Nothing in it waits, so `timeout` is 0. Each cache has a store of its own; namespaces within share its limits.
    """

    NAME = "memory"

    def __init__(
        self,
        policy: Policy = "lru",
        *,
        max_entries: int,
        max_bytes: int | None = None,
        size_of: Callable[[str, Any], int] = size_of,
        ttl: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        serializer: BaseSerializer | None = None,
        plugins: Sequence[BasePlugin] = (),
        namespace: str | None = None,
        max_value: int | None = None,
    ) -> None:
        super().__init__(
            serializer=serializer or _AS_IT_IS, plugins=plugins, namespace=namespace, timeout=0, ttl=ttl,
            max_value=max_value,
        )  # fmt: skip
        measure = None if max_bytes is None else size_of
        self._store: Bounded[Any] = Bounded(
            policy, max_entries=max_entries, max_bytes=max_bytes, size_of=measure, clock=clock
        )
        # Then `get` and `set` need none of the layers, which would take three times as long as the store itself.
        self._plain = namespace is None and max_value is None

    def __repr__(self) -> str:
        return f"<MemoryCache {self._store!r}>"

    def counts(self) -> Counts:
        return self._store.counts()

    async def get(
        self,
        key: str,
        default: Any = None,
        loads_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _conn: object = None,
        timeout: float | None = None,
    ) -> Any:
        asked = loads_fn is not None or namespace is not None
        if asked or not self._plain or self._plugins or self._serializer is not _AS_IT_IS:
            return await super().get(key, **_given(default=default, loads_fn=loads_fn, namespace=namespace))
        value = self._store.get(check_key(key))
        return default if value is MISS else value

    async def get_or_miss(self, key: str) -> Any:
        return self._loaded(self._store.get(self._build_key(key)))

    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = SENTINEL,
        dumps_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _cas_token: Any = None,
        _conn: object = None,
        timeout: float | None = None,
    ) -> bool:
        asked = dumps_fn is not None or namespace is not None or _cas_token is not None
        if asked or not self._plain or self._plugins or self._serializer is not _AS_IT_IS:
            given = _given(dumps_fn=dumps_fn, namespace=namespace, _cas_token=_cas_token)
            return await super().set(key, value, **given | ({} if ttl is SENTINEL else {"ttl": ttl}))
        self._store.set(check_key(key), value, self.ttl if ttl is SENTINEL else ttl)
        return True

    async def _get(self, key: str) -> Any:
        return self._store.get(key)

    async def _gets(self, key: str, encoding: str = "", _conn: object = None) -> Any:
        raw = self._store.get(key)
        return None if raw is MISS else raw

    async def _multi_get(self, keys: list[str]) -> list[Any]:
        return [self._store.get(key) for key in keys]

    async def _set(self, key: str, value: Any, ttl: float | None, _cas_token: Any = None) -> bool:
        if _cas_token is not None and self._store.peek(key) != _cas_token:
            return False
        self._store.set(key, value, ttl)
        return True

    async def _multi_set(self, pairs: list[tuple[str, Any]], ttl: float | None) -> None:
        for key, value in pairs:
            self._store.set(key, value, ttl)

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: object = None) -> None:
        if not self._store.add(key, value, ttl):
            raise KeyExists(f"key {key!r}: has a value")

    async def _delete(self, key: str) -> int:
        return int(self._store.delete(key))

    async def _exists(self, key: str) -> bool:
        return self._store.peek(key) is not MISS

    async def _increment(self, key: str, delta: int) -> int:
        raw = self._store.peek(key)
        total = delta if raw is MISS else whole_number(key, self.serializer.loads(raw)) + delta
        if not self._store.replace(key, self.serializer.dumps(total)):
            self._store.set(key, self.serializer.dumps(total))
        return total

    async def _expire(self, key: str, ttl: float | None) -> bool:
        return self._store.expire(key, ttl)

    async def _clear(self, namespace: str | None) -> None:
        if namespace is None:
            self._store.clear()
            return
        keys = self._store.keys()
        for key in keys:
            if key.startswith(f"{namespace}:"):
                self._store.delete(key)

    async def _redlock_release(self, key: str, value: Any) -> int:
        return int(self._store.peek(key) == value and self._store.delete(key))


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that the caller gave: plugins see no others."""
    return {name: value for name, value in arguments.items() if value is not None}
