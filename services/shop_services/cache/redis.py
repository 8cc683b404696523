"""Values in a Redis or Valkey: all instances of the service are fronts of the one, and its own policy makes room.

A value is kept as one string under `shop:cache:NAMESPACE:KEY`: 16 bytes that hold the version and the time to expire,
then the value. So one GET or MGET tells all of them. Versions are the microseconds of Redis' clock, or one more than
the last one where that is greater: they grow although the clock is set back, or all keys are lost.

While Redis is away, frozen or slow, reads are misses and all else fails, within `bound` seconds; each call tries again.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from shop_services.cache.domain import Entry, Swap
from shop_services.cache.limits import MAX_ANSWER, answer_too_large
from shop_services.caching.counts import Counts
from shop_services.caching.redis_pool import redis_pool
from shop_services.runtime.errors import ResourceExhausted, SharedOutage, Unavailable
from shop_services.runtime.tls import ClientTls

BOUND = 1.0
"""Seconds that a call waits for Redis at most: a caller with the usual deadline still hears what is wrong."""
CONNECTIONS = 32
"""Connections that a process keeps to its Redis at most; a call that needs one more waits, within its bound."""

_PREFIX = "shop:cache"
_HEADER = struct.Struct(">QQ")  # version; milliseconds since the Unix epoch when it expires, or 0
_CLEAR_STEP = 1000

_log = structlog.get_logger(__name__)

# KEYS[1] is the last version given; the keys of the values follow. ARGV[1] is a TTL in milliseconds, or empty.
_WRITE = """
local function write(first)
    local time = redis.call('TIME')
    local version = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('GET', KEYS[1])) or 0) + 1)
    local expires, written = 0, {}
    if ARGV[1] ~= '' then
        expires = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
    end
    for i = 2, #KEYS do
        local text = struct.pack('>I8I8', version, expires) .. ARGV[first + i - 2]
        if expires == 0 then
            redis.call('SET', KEYS[i], text)
        else
            redis.call('SET', KEYS[i], text, 'PX', ARGV[1])
        end
        written[#written + 1] = version
        version = version + 1
    end
    redis.call('SET', KEYS[1], string.format('%.0f', version - 1))
    return written
end
"""
_SET = _WRITE + "return write(2)"
# ARGV[2] is the version that the value must have. Numbers of Lua are exact up to 2^53: so are versions until 2255.
_COMPARE_AND_SET = (
    _WRITE
    + """
local header, present = redis.call('GETRANGE', KEYS[2], 0, 15), 0
if #header == 16 then
    present = struct.unpack('>I8', header)
end
if present ~= tonumber(ARGV[2]) then
    return {0, present}
end
return {1, write(3)[1]}
"""
)

# The values, or their size if that is more than ARGV[1]: a thousand of the largest are a gigabyte that nobody can take.
_GET_MANY = """
local size = 0
for _, key in ipairs(KEYS) do
    size = size + redis.call('STRLEN', key)
end
if size > tonumber(ARGV[1]) then
    return size
end
return redis.call('MGET', unpack(KEYS))
"""


class RedisValues:
    """`Values` in the Redis at `url`, for the given namespaces; `close` it. `url` and `tls` are as in `redis_pool`.

    Raises:
        ValueError: the URL cannot be used.
    """

    def __init__(
        self, url: str, namespaces: Iterable[str], *, bound: float = BOUND, tls: ClientTls | None = None
    ) -> None:
        # It repeats nothing: a compare-and-set must not be, and there is no time for more.
        self._redis = Redis.from_pool(redis_pool(url, connections=CONNECTIONS, timeout=bound, tls=tls))
        self._set = self._redis.register_script(_SET)
        self._get_many = self._redis.register_script(_GET_MANY)
        self._compare_and_set = self._redis.register_script(_COMPARE_AND_SET)
        self._bound = bound
        self._counts: Mapping[str, Counter[str]] = {name: Counter() for name in sorted(namespaces)}
        self._reachable = True
        self._place = urlsplit(url).hostname or "a local socket"

    def __repr__(self) -> str:
        return f"<RedisValues at {self._place}{'' if self._reachable else ', not available'}>"

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def get(self, namespace: str, key: str) -> Entry | None:
        text = None
        with suppress(Unavailable):
            async with self._asking():
                text = await self._redis.get(_name(namespace, key))
        return self._counted(namespace, [_decode(key, text)])[0]

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        limit = MAX_ANSWER + len(keys) * _HEADER.size
        found: int | Sequence[bytes | None] = [None] * len(keys)
        with suppress(Unavailable):
            async with self._asking():
                found = await self._get_many([_name(namespace, key) for key in keys], [limit])
        if isinstance(found, int):
            raise answer_too_large()
        return self._counted(namespace, [_decode(key, text) for key, text in zip(keys, found, strict=True)])

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        return (await self.set_many(namespace, [(key, value)], ttl))[0]

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        names = [_version(), *(_name(namespace, key) for key, _ in items)]
        async with self._asking():
            versions: list[int] = await self._set(names, [_milliseconds(ttl), *(value for _, value in items)])
        self._counts[namespace]["sets"] += len(items)
        return versions

    async def compare_and_set(self, namespace: str, key: str, value: bytes, ttl: int | None, expected: int) -> Swap:
        async with self._asking():
            names, arguments = [_version(), _name(namespace, key)], [_milliseconds(ttl), expected, value]
            swapped, version = await self._compare_and_set(names, arguments)
        self._counts[namespace]["sets"] += swapped
        return Swap(bool(swapped), version)

    async def delete(self, namespace: str, key: str) -> bool:
        return await self.delete_many(namespace, [key]) == 1

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        async with self._asking():
            removed: int = await self._redis.unlink(*(_name(namespace, key) for key in keys))
        self._counts[namespace]["deletes"] += removed
        return removed

    async def clear(self, namespace: str) -> int:
        removed = cursor = 0
        while True:
            async with self._asking():  # each step has its own time: how long it takes in all is the caller's to say
                cursor, names = await self._redis.scan(cursor, match=_name(namespace, "*"), count=_CLEAR_STEP)
                gone = await self._redis.unlink(*names) if names else 0
            removed += gone
            self._counts[namespace]["deletes"] += gone
            if cursor == 0:
                return removed

    async def stats(self) -> Mapping[str, Counts]:
        return self.counts()

    def counts(self) -> Mapping[str, Counts]:
        """What was asked through this front: what there is, and what was forgotten by itself, Redis alone knows."""
        return {name: Counts(**counts) for name, counts in self._counts.items()}

    def _counted(self, namespace: str, entries: list[Entry | None]) -> list[Entry | None]:
        misses = entries.count(None)
        self._counts[namespace]["misses"] += misses
        self._counts[namespace]["hits"] += len(entries) - misses
        return entries

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._bound):
                yield
        except OutOfMemoryError as error:
            raise ResourceExhausted("redis", "the Redis behind the cache has no room, and may not make any") from error
        except (RedisError, TimeoutError, OSError) as error:
            if self._reachable:
                _log.warning("redis_unavailable", at=self._place, error=f"{type(error).__name__}: {error}")
            self._reachable = False
            raise SharedOutage(f"the Redis behind the cache is not available ({type(error).__name__})") from error
        if not self._reachable:
            _log.info("redis_available", at=self._place)
        self._reachable = True


def _name(namespace: str, key: str) -> str:
    return f"{_PREFIX}:{namespace}:{key}"  # a namespace has no colon


def _version() -> str:
    return f"{_PREFIX}-version"


def _milliseconds(ttl: int | None) -> int | str:
    return "" if ttl is None else -(-ttl // 1_000_000)


def _decode(key: str, text: bytes | str | None) -> Entry | None:
    if not isinstance(text, bytes) or len(text) < _HEADER.size:
        return None  # nothing, or something of somebody else's
    version, expires = _HEADER.unpack_from(text)
    return Entry(key, text[_HEADER.size :], version, expires * 1_000_000 if expires else None)
