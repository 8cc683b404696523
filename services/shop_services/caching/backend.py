"""aiocache's interface with types, and with what it leaves open settled: what a miss is, what an argument may be."""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from aiocache.base import API, SENTINEL, BaseCache  # type: ignore[import-untyped]
from aiocache.plugins import BasePlugin  # type: ignore[import-untyped]
from aiocache.serializers import BaseSerializer  # type: ignore[import-untyped]

from shop_services.caching.arguments import check_key, check_namespace, check_size, check_ttl
from shop_services.caching.counts import MISS, Counts, Miss
from shop_services.caching.errors import CacheUnavailable

__all__ = ["MISS", "SENTINEL", "Backend", "BytesSerializer", "Miss", "bounded_by"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
T = TypeVar("T")

_OWN: Any = object()


async def bounded_by(seconds: float | None, name: str, work: Awaitable[T]) -> T:
    """What `work` returns within so many seconds; None and 0: however long it takes. Raises `CacheUnavailable`."""
    if not seconds:
        return await work
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise CacheUnavailable(f"{name}: no answer within {seconds:g} s") from None


def _command(function: F, *, in_steps: bool = False) -> F:
    """What aiocache's decorators do around a command, in one layer: plugins and a deadline, if there are any.

    The cache's own timeout is not for the whole of a command that goes in steps.
    """
    name = function.__name__
    with_plugins = API.plugins(function)

    @functools.wraps(function)
    async def call(self: Backend, *args: Any, timeout: float | None = _OWN, **kwargs: Any) -> Any:
        if timeout is _OWN:
            timeout = None if in_steps else self.timeout
        work = with_plugins if self.plugins else function
        return await bounded_by(timeout, name, work(self, *args, **kwargs))

    return cast("F", call)


class BytesSerializer(BaseSerializer):  # type: ignore[misc]
    """Values are bytes, and stay what they are. (aiocache's NullSerializer makes text of what Redis returns.)"""

    DEFAULT_ENCODING = None

    def dumps(self, value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise TypeError(f"value: bytes, not {type(value).__name__}")
        return value

    def loads(self, value: bytes) -> bytes:
        return value


class Backend(BaseCache):  # type: ignore[misc]
    """A cache. What differs from aiocache 0.12.3 or is not said there:

    - A cached None is a value: `get` returns it, also if there is a `default`, which is for misses alone.
    - `ttl`: seconds, more than 0 and at most a year; None: no end; left out: the cache's own.
    - `clear` is for one namespace, the cache's own if none is given.
    - A deadline that has passed raises `CacheUnavailable`, as all that goes wrong on the way to a shared cache does.
    - Wrong arguments raise a `CacheError`, which says what is allowed.

    Every command also takes `timeout` in seconds, in place of the cache's own; 0 and None: none. (A shared cache's own
    may be the most that it waits all the same.)

    A subclass implements the methods with an underscore. They get the full key, a checked `ttl`, and raw values, which
    the serializer made and reads; `_get` and `_multi_get` return `MISS` where there is none.
    """

    def __init__(
        self,
        *,
        serializer: BaseSerializer,
        plugins: Sequence[BasePlugin] = (),
        namespace: str | None = None,
        timeout: float | None = None,
        ttl: float | None = None,
        max_value: int | None = None,
    ) -> None:
        """`max_value`: bytes that a value takes at most, if the serializer makes bytes or text. Raises `CacheError`."""
        if namespace is not None:
            check_namespace(namespace)
        super().__init__(
            serializer=serializer, plugins=list(plugins), namespace=namespace, timeout=timeout, ttl=check_ttl(ttl)
        )
        self.max_value = max_value

    @abstractmethod
    def counts(self) -> Counts:
        """What happened so far, through this object."""

    async def get_or_miss(self, key: str) -> Any:
        """The value of `key`, or `MISS`. The cache's timeout holds; plugins are not called.

        Raises:
            InvalidKey: it is empty, too long, or no text.
            CacheUnavailable: a shared cache did not answer.
        """
        return self._loaded(await bounded_by(self.timeout, "get", self._get(self.build_key(key))))

    async def multi_get_or_miss(self, keys: Iterable[str]) -> list[Any]:
        """For each of `keys` its value or `MISS`, as `get_or_miss`."""
        full = [self.build_key(key) for key in keys]
        return [self._loaded(raw) for raw in await bounded_by(self.timeout, "multi_get", self._multi_get(full))]

    @_command
    async def get(
        self,
        key: str,
        default: Any = None,
        loads_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _conn: object = None,
    ) -> Any:
        """The value of `key`; `default` if there is none. Raises as `get_or_miss`."""
        value = self._loaded(await self._get(self.build_key(key, namespace)), loads_fn)
        return default if value is MISS else value

    @_command
    async def multi_get(
        self,
        keys: Iterable[str],
        loads_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _conn: object = None,
    ) -> list[Any]:
        """For each of `keys` its value, or None. Raises as `get_or_miss`."""
        values = await self._multi_get([self.build_key(key, namespace) for key in keys])
        return [None if raw is MISS else self._loaded(raw, loads_fn) for raw in values]

    @_command
    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = SENTINEL,
        dumps_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _cas_token: Any = None,
        _conn: object = None,
    ) -> bool:
        """Keep `value`. With `_cas_token` (aiocache's OptimisticLock) only if that is the raw value now.

        Returns whether it is kept.

        Raises:
            InvalidKey, InvalidTtl, ValueTooLarge: an argument is wrong; nothing was changed.
            CacheUnavailable: a shared cache did not answer; it may be kept.
        """
        full = self.build_key(key, namespace)
        return await self._set(full, self._dumped(key, value, dumps_fn), self._get_ttl(ttl), _cas_token=_cas_token)

    @_command
    async def multi_set(
        self,
        pairs: Iterable[tuple[str, Any]],
        ttl: float | None = SENTINEL,
        dumps_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _conn: object = None,
    ) -> bool:
        """Keep several values. Returns True. Raises as `set`; nothing was changed if an argument is wrong."""
        raw = [(self.build_key(key, namespace), self._dumped(key, value, dumps_fn)) for key, value in pairs]
        await self._multi_set(raw, self._get_ttl(ttl))
        return True

    @_command
    async def add(
        self,
        key: str,
        value: Any,
        ttl: float | None = SENTINEL,
        dumps_fn: Callable[[Any], Any] | None = None,
        namespace: str | None = None,
        _conn: object = None,
    ) -> bool:
        """Keep `value` if there is none yet. Returns True. Raises as `set`, and `KeyExists` if there is one."""
        full = self.build_key(key, namespace)
        await self._add(full, self._dumped(key, value, dumps_fn), self._get_ttl(ttl))
        return True

    @_command
    async def delete(self, key: str, namespace: str | None = None, _conn: object = None) -> int:
        """Forget the value of `key`. Returns how many there were: 1 or 0. Raises as `get_or_miss`."""
        return await self._delete(self.build_key(key, namespace))

    @_command
    async def exists(self, key: str, namespace: str | None = None, _conn: object = None) -> bool:
        """Whether `key` has a value, which is not used by that. Raises as `get_or_miss`."""
        return await self._exists(self.build_key(key, namespace))

    @_command
    async def increment(self, key: str, delta: int = 1, namespace: str | None = None, _conn: object = None) -> int:
        """Add `delta` to the whole number of `key`, which ends when it would have; if there is none, keep `delta`.

        Returns the sum. Raises as `get_or_miss`, and `TypeError` if the value or `delta` is no whole number.
        """
        if not isinstance(delta, int):
            raise TypeError(f"delta {delta!r}: a whole number")
        return await self._increment(self.build_key(key, namespace), delta)

    @_command
    async def expire(self, key: str, ttl: float | None, namespace: str | None = None, _conn: object = None) -> bool:
        """Let the value of `key` end in `ttl` seconds; None: never. Returns whether there is one. Raises as `set`."""
        return await self._expire(self.build_key(key, namespace), check_ttl(ttl))

    @functools.partial(_command, in_steps=True)
    async def clear(self, namespace: str | None = None, _conn: object = None) -> bool:
        """Forget all values of `namespace`, or of the cache's own. Returns True. Raises as `get_or_miss`.

        What is set meanwhile may be forgotten too. The cache's timeout is for each step: it takes as long as there are
        values.
        """
        await self._clear(self.namespace if namespace is None else check_namespace(namespace))
        return True

    @_command
    async def raw(self, command: str, *args: Any, _conn: object = None, **kwargs: Any) -> Any:
        """What the client below answers to its own `command`. Not portable."""
        return await self._raw(command, *args, **kwargs)

    async def close(self, _conn: object = None, timeout: float | None = None) -> None:
        """Let go of connections. The cache can be used after that, and closed again."""
        await self._close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.namespace or 'without namespace'}>"

    def _build_key(self, key: object, namespace: str | None = None) -> str:
        """The key with its namespace before it. Raises `InvalidKey`."""
        if namespace is not None:
            return f"{check_namespace(namespace)}:{check_key(key)}"
        return check_key(key) if self.namespace is None else f"{self.namespace}:{check_key(key)}"

    def _get_ttl(self, ttl: Any) -> float | None:
        return cast("float | None", self.ttl) if ttl is SENTINEL else check_ttl(ttl)

    def _dumped(self, key: str, value: Any, dumps_fn: Callable[[Any], Any] | None = None) -> Any:
        raw = (dumps_fn or self.serializer.dumps)(value)
        if self.max_value is not None and isinstance(raw, bytes | str):
            check_size(key, len(raw if isinstance(raw, bytes) else raw.encode()), self.max_value)
        return raw

    def _loaded(self, raw: Any, loads_fn: Callable[[Any], Any] | None = None) -> Any:
        return MISS if raw is MISS else (loads_fn or self.serializer.loads)(raw)

    @abstractmethod
    async def _get(self, key: str) -> Any: ...

    @abstractmethod
    async def _gets(self, key: str, encoding: str = "", _conn: object = None) -> Any:
        """The raw value, as `_set` takes it for `_cas_token`; None if there is none. For aiocache's OptimisticLock."""

    @abstractmethod
    async def _multi_get(self, keys: list[str]) -> list[Any]: ...

    @abstractmethod
    async def _set(self, key: str, value: Any, ttl: float | None, _cas_token: Any = None) -> bool: ...

    @abstractmethod
    async def _multi_set(self, pairs: list[tuple[str, Any]], ttl: float | None) -> None: ...

    @abstractmethod
    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: object = None) -> None:
        """Raises `KeyExists`. Also for aiocache's RedLock."""

    @abstractmethod
    async def _delete(self, key: str) -> int: ...

    @abstractmethod
    async def _exists(self, key: str) -> bool: ...

    @abstractmethod
    async def _increment(self, key: str, delta: int) -> int: ...

    @abstractmethod
    async def _expire(self, key: str, ttl: float | None) -> bool: ...

    @abstractmethod
    async def _clear(self, namespace: str | None) -> None: ...

    async def _raw(self, command: str, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no client below it")

    @abstractmethod
    async def _redlock_release(self, key: str, value: Any) -> int:
        """Forget `key` if its raw value is `value`; returns how many were forgotten. For aiocache's RedLock."""

    async def _close(self) -> None:
        """Nothing is held."""
