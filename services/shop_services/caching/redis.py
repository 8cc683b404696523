"""A cache in a Redis or Valkey, which other processes share.

What goes wrong on the way there, and no answer in time, is `CacheUnavailable`. Nothing is tried again: the source of
what is cached is the better second try. Limits and eviction are the server's own (`maxmemory`, `maxmemory-policy`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from aiocache.plugins import BasePlugin  # type: ignore[import-untyped]
from aiocache.serializers import BaseSerializer, JsonSerializer  # type: ignore[import-untyped]
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from shop_services.caching.arguments import MAX_VALUE_BYTES, check_namespace
from shop_services.caching.backend import MISS, Backend, bounded_by
from shop_services.caching.counts import Counts
from shop_services.caching.errors import CacheUnavailable, KeyExists
from shop_services.caching.redis_pool import redis_pool
from shop_services.runtime.tls import ClientTls

CONNECTIONS: Final = 16
"""Connections to the server at most; a call that finds none free waits for one, within its timeout."""

# Keys that a step of `clear` looks at: about 1 ms of the server, which serves nobody else meanwhile.
_SCAN = 1000

_SET_IF: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], unpack(ARGV, 2))
return 1
"""

_DELETE_IF: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisCache(Backend):
    """Values under `namespace:key`, as `serializer` makes them.

    `url` and `tls` are as in `redis_pool`. `timeout`: seconds for one exchange with
    the server, connecting included; also the most that a call's own `timeout` can be. Connecting happens when needed.

    `counts` are those of this object; evictions, expirations, entries and bytes are the server's, and None here.

    Raises:
        InvalidKey: there is no namespace, or it is no fit one. (Without one, `clear` would be for the whole server.)
        ValueError: the URL is none of a Redis, or the timeout is not more than 0.
    """

    NAME = "redis"

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        serializer: BaseSerializer | None = None,
        plugins: Sequence[BasePlugin] = (),
        timeout: float = 0.1,
        ttl: float | None = None,
        max_value: int = MAX_VALUE_BYTES,
        connections: int = CONNECTIONS,
        tls: ClientTls | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout {timeout!r}: seconds, more than 0")
        super().__init__(
            serializer=serializer or JsonSerializer(),
            plugins=plugins,
            namespace=check_namespace(namespace),
            timeout=timeout,
            ttl=ttl,
            max_value=max_value,
        )
        self._pool = redis_pool(url, connections=connections, timeout=timeout, tls=tls)
        self._client = Redis(connection_pool=self._pool)
        place = urlsplit(url)
        self._where = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"
        self._hits = self._misses = self._sets = self._deletes = 0

    def __repr__(self) -> str:
        return f"<RedisCache {self.namespace} at {self._where}>"

    def counts(self) -> Counts:
        return Counts(hits=self._hits, misses=self._misses, sets=self._sets, deletes=self._deletes)

    async def _get(self, key: str) -> Any:
        return self._found(await self._call("GET", key))

    async def _gets(self, key: str, encoding: str = "", _conn: object = None) -> Any:
        raw = await self._get(key)
        return None if raw is MISS else raw

    async def _multi_get(self, keys: list[str]) -> list[Any]:
        return [self._found(raw) for raw in await self._call("MGET", *keys)] if keys else []

    async def _set(self, key: str, value: Any, ttl: float | None, _cas_token: Any = None) -> bool:
        if _cas_token is None:
            await self._call("SET", key, value, *_px(ttl))
        elif not await self._call("EVAL", _SET_IF, 1, key, _cas_token, value, *_px(ttl)):
            return False
        self._sets += 1
        return True

    async def _multi_set(self, pairs: list[tuple[str, Any]], ttl: float | None) -> None:
        if not pairs:
            return
        with self._answers("multi_set"):
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in pairs:
                    pipeline.execute_command("SET", key, value, *_px(ttl))
                await bounded_by(self.timeout, "multi_set", pipeline.execute())
        self._sets += len(pairs)

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: object = None) -> None:
        if not await self._call("SET", key, value, "NX", *_px(ttl)):
            raise KeyExists(f"key {key!r}: has a value")
        self._sets += 1

    async def _delete(self, key: str) -> int:
        return self._deleted(await self._call("DEL", key))

    async def _exists(self, key: str) -> bool:
        return bool(await self._call("EXISTS", key))

    async def _increment(self, key: str, delta: int) -> int:
        try:
            total: int = await self._call("INCRBY", key, delta)
        except CacheUnavailable as e:
            if isinstance(e.__cause__, ResponseError) and re.search("not an integer|overflow", str(e.__cause__)):
                raise TypeError(f"the value of {key!r}: no whole number, or none of 64 bits then") from None
            raise
        self._sets += 1
        return total

    async def _expire(self, key: str, ttl: float | None) -> bool:
        if ttl is not None:
            return bool(await self._call("PEXPIRE", key, _milliseconds(ttl)))
        return bool(await self._call("PERSIST", key)) or await self._exists(key)

    async def _clear(self, namespace: str | None) -> None:
        pattern = re.sub(r"([\\*?\[\]^])", r"\\\1", f"{namespace}:") + "*"
        cursor: bytes | int = 0
        while True:
            cursor, keys = await self._call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN)
            if keys:
                self._deleted(await self._call("UNLINK", *keys))
            if not int(cursor):
                return

    async def _raw(self, command: str, *args: Any, **kwargs: Any) -> Any:
        return await self._call(command, *args)

    async def _redlock_release(self, key: str, value: Any) -> int:
        return self._deleted(await self._call("EVAL", _DELETE_IF, 1, key, value))

    async def _close(self) -> None:
        await self._pool.disconnect()

    async def _call(self, command: str, *args: Any) -> Any:
        with self._answers(command):
            answer = self._client.execute_command(command, *args)  # type: ignore[no-untyped-call]
            return await bounded_by(self.timeout, command, answer)

    @contextmanager
    def _answers(self, command: str) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as e:
            raise CacheUnavailable(f"{command}, {self._where}: {str(e) or type(e).__name__}") from e

    def _found(self, raw: bytes | None) -> Any:
        if raw is None:
            self._misses += 1
            return MISS
        self._hits += 1
        encoding = self.serializer.encoding
        return raw if encoding is None else raw.decode(encoding)

    def _deleted(self, count: int) -> int:
        self._deletes += count
        return count


def _px(ttl: float | None) -> Sequence[str | int]:
    """The arguments that give a SET its end."""
    return () if ttl is None else ("PX", _milliseconds(ttl))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
