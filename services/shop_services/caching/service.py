"""The cache service as a cache: one that all processes share, over all instances of the service.

A key goes to the instance that has it, by the ring (`ring`); several keys go to their owners in parallel, as one call
each. If an owner dies, its keys are missed, and are another's from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from aiocache.plugins import BasePlugin  # type: ignore[import-untyped]
from aiocache.serializers import BaseSerializer, JsonSerializer  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration

from grpc_balancer import Channel
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.caching.arguments import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    SERVICE_NAMESPACE,
    check_namespace,
    shortened,
    whole_number,
)
from shop_services.caching.backend import MISS, Backend
from shop_services.caching.counts import Counts
from shop_services.caching.errors import CacheError, CacheUnavailable, InvalidKey, KeyExists, ValueTooLarge
from shop_services.caching.ring import key_header
from shop_services.runtime.identity.authority import Credentials
from shop_services.runtime.outgoing import OutgoingChannel

TIMEOUT: Final = 0.1
"""Seconds for a command. A hop on one network takes a millisecond; whoever waits longer had better ask the source."""

_SWAPS = 20
"""How often a change that goes by compare-and-set is tried while other processes change the value."""
_TURNS = 64
"""For as many keys at a time values can be swapped, or somewhat less."""

_BATCH = 1000  # keys in a call, as in cache.proto
_BATCH_BYTES = 3 * 1024 * 1024  # values in a call, whose message has at most 4 MiB
_CLEAR_SECONDS = 5.0  # a second for some million values
_PART = 0.8  # of a command's time, for each of its calls: so that those that were answered still count
_AT_ONCE = 1e-9  # seconds: the shortest time to live that there is


class ServiceCache(Backend):
    """The namespace `namespace` of the cache service, which has to be declared there, over a `ring.ring_channel`.

    Commands that name another namespace go to that one. It is a shared cache like any other, except that:

    - a time to live of None is the default of the namespace in the service, which may have none;
    - `exists` is a use, and counted there as a look;
    - `increment` and `expire` read and compare, so that very many processes at one key may get `CacheUnavailable`;
    - keys hold no NUL, as no text in the service's messages does;
    - of several keys those are missed whose owner did not answer; `CacheUnavailable` is raised if nobody did.
    """

    NAME = "service"

    def __init__(
        self,
        channel: Channel,
        namespace: str,
        *,
        serializer: BaseSerializer | None = None,
        plugins: Sequence[BasePlugin] = (),
        timeout: float | None = TIMEOUT,
        ttl: float | None = None,
        max_value: int = MAX_VALUE_BYTES,
        wall: Callable[[], float] = time.time,
        credentials: Credentials = tuple,
    ) -> None:
        """`wall`: seconds since 1970, to tell how long a value still has that is incremented. `credentials`: who calls.

        Raises:
            InvalidKey: no namespace of the service can have that name.
            InvalidTtl: `ttl` is not one.
        """
        if not SERVICE_NAMESPACE.fullmatch(check_namespace(namespace)):
            raise InvalidKey(f"namespace {shortened(namespace)}: 1 to 64 letters, digits, '.', '_' or '-'")
        super().__init__(
            serializer=serializer or JsonSerializer(),
            plugins=plugins,
            namespace=namespace,
            timeout=timeout,
            ttl=ttl,
            max_value=max_value,
        )
        self._channel = channel
        self._stub = CacheServiceStub(OutgoingChannel(channel, credentials=credentials))
        self._wall = wall
        self._turns = [asyncio.Lock() for _ in range(_TURNS)]
        self._hits = self._misses = self._sets = self._deletes = 0

    def __repr__(self) -> str:
        return f"<ServiceCache {self.namespace} over {self._channel!r}>"

    def counts(self) -> Counts:
        return Counts(hits=self._hits, misses=self._misses, sets=self._sets, deletes=self._deletes)

    async def _get(self, key: str) -> Any:
        entry = await self._entry(key)
        self._count([entry])
        return MISS if entry is None else self._from_bytes(entry.value)

    async def _gets(self, key: str, encoding: str = "", _conn: object = None) -> Any:
        entry = await self._entry(key)
        return None if entry is None else self._from_bytes(entry.value)

    async def _multi_get(self, keys: list[str]) -> list[Any]:
        groups = self._by_owner(dict.fromkeys(keys))
        batches = (self._batch(namespace, some) for namespace, some in groups)
        found: dict[str, pb.Entry] = {}
        failures: list[CacheUnavailable] = []
        for (namespace, _), outcome in zip(groups, await asyncio.gather(*batches, return_exceptions=True), strict=True):
            if isinstance(outcome, CacheUnavailable):
                failures.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found |= {f"{namespace}:{entry.key}": entry for entry in outcome}
        if failures and len(failures) == len(groups):
            raise failures[0]
        entries = [found.get(key) for key in keys]
        self._count(entries)
        return [MISS if entry is None else self._from_bytes(entry.value) for entry in entries]

    async def _set(self, key: str, value: Any, ttl: float | None, _cas_token: Any = None) -> bool:
        if _cas_token is not None:
            entry = await self._entry(key)
            if entry is None or entry.value != _to_bytes(_cas_token):
                return False
            return await self._swap(key, _to_bytes(value), ttl, entry.version)
        namespace, name = _split(key)
        request = pb.SetRequest(namespace=namespace, key=name, value=_to_bytes(value), ttl=_duration(ttl))
        await self._ask(self._stub.Set, request, name)
        self._sets += 1
        return True

    async def _multi_set(self, pairs: list[tuple[str, Any]], ttl: float | None) -> None:
        values = {key: _to_bytes(value) for key, value in pairs}
        parts = [
            (namespace, part)
            for namespace, names in self._by_owner(values)
            for part in _in_parts([(name, values[f"{namespace}:{name}"]) for name in names])
        ]
        sets = (self._batch_set(namespace, part, ttl) for namespace, part in parts)
        for outcome in await asyncio.gather(*sets, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: object = None) -> None:
        if not await self._swap(key, _to_bytes(value), ttl, 0):
            raise KeyExists(f"key {key!r}: has a value")

    async def _delete(self, key: str) -> int:
        namespace, name = _split(key)
        response = await self._ask(self._stub.Delete, pb.DeleteRequest(namespace=namespace, key=name), name)
        self._deletes += response.deleted
        return int(response.deleted)

    async def _exists(self, key: str) -> bool:
        return await self._entry(key) is not None

    async def _increment(self, key: str, delta: int) -> int:
        async with self._turn(key):
            for _ in range(_SWAPS):
                total, version, ttl = delta, 0, None
                if (entry := await self._entry(key)) is not None:
                    value = self.serializer.loads(self._from_bytes(entry.value))
                    total, version, ttl = whole_number(key, value) + delta, entry.version, self._left(entry)
                if await self._swap(key, _to_bytes(self.serializer.dumps(total)), ttl, version):
                    return total
        raise CacheUnavailable(f"increment: others changed {key!r} {_SWAPS} times meanwhile")

    async def _expire(self, key: str, ttl: float | None) -> bool:
        async with self._turn(key):
            for _ in range(_SWAPS):
                entry = await self._entry(key)
                if entry is None:
                    return False
                if await self._swap(key, entry.value, ttl, entry.version):
                    return True
        raise CacheUnavailable(f"expire: others changed {key!r} {_SWAPS} times meanwhile")

    def _turn(self, key: str) -> asyncio.Lock:
        """What those of this process that swap the value of a key wait for, so that they do not outrun each other."""
        return self._turns[hash(key) % len(self._turns)]

    async def _clear(self, namespace: str | None) -> None:
        # Whoever gets it tells all the others.
        request = pb.ClearRequest(namespace=namespace or self.namespace)
        response = await self._ask(self._stub.Clear, request, "", seconds=_CLEAR_SECONDS)
        self._deletes += response.removed

    async def _redlock_release(self, key: str, value: Any) -> int:
        entry = await self._entry(key)
        if entry is None or entry.value != _to_bytes(value):
            return 0
        # Replaced by what ends at once: a delete might meet a lock that somebody else has taken meanwhile.
        return int(await self._swap(key, b"", _AT_ONCE, entry.version))

    # Calls

    async def _entry(self, key: str) -> pb.Entry | None:
        namespace, name = _split(key)
        response = await self._ask(self._stub.Get, pb.GetRequest(namespace=namespace, key=name), name)
        return response.entry if response.found else None

    async def _swap(self, key: str, value: bytes, ttl: float | None, version: int) -> bool:
        namespace, name = _split(key)
        request = pb.CompareAndSetRequest(
            namespace=namespace, key=name, value=value, ttl=_duration(ttl), expected_version=version
        )
        response = await self._ask(self._stub.CompareAndSet, request, name)
        self._sets += response.swapped
        return bool(response.swapped)

    async def _batch(self, namespace: str, keys: list[str]) -> Sequence[pb.Entry]:
        """The entries of the keys of one owner. Raises `CacheUnavailable`."""
        request = pb.BatchGetRequest(namespace=namespace, keys=keys)
        try:
            response = await self._ask(self._stub.BatchGet, request, keys[0], part=_PART)
        except _TooMuch as error:
            if len(keys) == 1:
                raise CacheUnavailable(str(error)) from error
            middle = len(keys) // 2
            return [*await self._batch(namespace, keys[:middle]), *await self._batch(namespace, keys[middle:])]
        entries: Sequence[pb.Entry] = response.entries
        return entries

    async def _batch_set(self, namespace: str, items: list[tuple[str, bytes]], ttl: float | None) -> None:
        kept = (pb.BatchSetItem(key=key, value=value) for key, value in items)
        request = pb.BatchSetRequest(namespace=namespace, items=kept, ttl=_duration(ttl))
        await self._ask(self._stub.BatchSet, request, items[0][0])
        self._sets += len(items)

    async def _ask(
        self, rpc: Callable[..., Any], request: Any, key: str, *, part: float = 1.0, seconds: float | None = None
    ) -> Any:
        timeout = self.timeout * part if self.timeout else None
        try:
            return await rpc(request, timeout=seconds or timeout, metadata=[key_header(request.namespace, key)])
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from error
        except grpc.aio.UsageError as error:  # the channel is closed
            raise CacheUnavailable(str(error)) from error

    def _by_owner(self, keys: Iterable[str]) -> list[tuple[str, list[str]]]:
        """The keys of each namespace and owner, a thousand at most, after the namespace that is theirs."""
        groups: dict[tuple[str, str], list[str]] = {}
        for key in keys:
            namespace, name = _split(key)
            owner = self._channel.owner([key_header(namespace, name)])
            groups.setdefault((namespace, owner.id if owner else ""), []).append(name)
        return [
            (namespace, names[start : start + _BATCH])
            for (namespace, _), names in groups.items()
            for start in range(0, len(names), _BATCH)
        ]

    # Values

    def _count(self, entries: Sequence[pb.Entry | None]) -> None:
        misses = entries.count(None)
        self._misses += misses
        self._hits += len(entries) - misses

    def _from_bytes(self, value: bytes) -> bytes | str:
        """The raw value as the serializer takes it: text, unless it is one of bytes."""
        encoding: str | None = self.serializer.encoding
        return value if encoding is None else value.decode(encoding)

    def _left(self, entry: pb.Entry) -> float | None:
        """Seconds that the entry still has by our clock; None: it has no end."""
        if not entry.HasField("expire_time"):
            return None
        return max(_AT_ONCE, entry.expire_time.ToNanoseconds() / 1e9 - self._wall())


class _TooMuch(CacheUnavailable):
    """The values asked for do not fit into an answer."""


def _failure(error: grpc.aio.AioRpcError) -> Exception:
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            field = details.partition(":")[0].rpartition(".")[2]
            return {"key": InvalidKey, "value": ValueTooLarge}.get(field, CacheError)(details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _TooMuch(details)
        case code:
            return CacheUnavailable(f"{code.name}: {details}")


def _split(key: str) -> tuple[str, str]:
    """The namespace and the key. The first colon divides them, for a namespace has none."""
    namespace, _, name = key.partition(":")
    return namespace, name


def _in_parts(items: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """The items in lists that fit into a message each."""
    part: list[tuple[str, bytes]] = []
    size = 0
    for key, value in items:
        if part and size + len(value) > _BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append((key, value))
        size += len(value) + MAX_KEY_BYTES // 8
    if part:
        yield part


def _to_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _duration(ttl: float | None) -> Duration | None:
    if ttl is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(max(1, round(ttl * 1e9)))
    return duration
