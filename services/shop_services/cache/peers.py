"""The values of other instances, by RPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from grpc_registry import Instance
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.cache.domain import Entry, Swap
from shop_services.caching.direct import direct_channel
from shop_services.caching.ring import ROUTED_HEADER, key_header
from shop_services.runtime.errors import DomainError, InvalidArgument, ResourceExhausted, Unavailable

SECONDS = 1.0
"""How long a call may take that was passed on: a caller with the usual deadline still hears what is wrong."""
CLEAR_SECONDS = 4.0
"""How long clearing may take, which is a second for some million values."""

_ROUTED = (ROUTED_HEADER, "1")


class Late(Unavailable):
    """The other instance did not answer in time; another try would most likely take as long."""


class Peers:
    """`Values` of whichever instance has the key, or the first of the keys: the others must be the same one's.

    `channel` goes by the key to any instance but this one, `direct` makes one to that which it is given.

    Every method raises `Unavailable` if the call failed, and `Late` if it was not answered in time: it may have been
    done all the same. What the other instance refuses is raised as it would be there.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        seconds: float = SECONDS,
        direct: Callable[[Instance], grpc.aio.Channel] = direct_channel,
    ) -> None:
        self._stub = CacheServiceStub(channel)
        self._direct = direct
        self._seconds = seconds

    async def get(self, namespace: str, key: str) -> Entry | None:
        request = pb.GetRequest(namespace=namespace, key=key)
        response: pb.GetResponse = await self._ask(self._stub.Get, request, key)
        return _entry(response.entry) if response.found else None

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        request = pb.BatchGetRequest(namespace=namespace, keys=keys)
        response: pb.BatchGetResponse = await self._ask(self._stub.BatchGet, request, keys[0])
        found = {entry.key: _entry(entry) for entry in response.entries}
        return [found.get(key) for key in keys]

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        request = pb.SetRequest(namespace=namespace, key=key, value=value, ttl=_duration(ttl))
        response: pb.SetResponse = await self._ask(self._stub.Set, request, key)
        return response.version

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        kept = (pb.BatchSetItem(key=key, value=value) for key, value in items)
        request = pb.BatchSetRequest(namespace=namespace, items=kept, ttl=_duration(ttl))
        response: pb.BatchSetResponse = await self._ask(self._stub.BatchSet, request, items[0][0])
        return list(response.versions)

    async def compare_and_set(self, namespace: str, key: str, value: bytes, ttl: int | None, expected: int) -> Swap:
        request = pb.CompareAndSetRequest(
            namespace=namespace, key=key, value=value, ttl=_duration(ttl), expected_version=expected
        )
        response: pb.CompareAndSetResponse = await self._ask(self._stub.CompareAndSet, request, key)
        return Swap(response.swapped, response.version)

    async def delete(self, namespace: str, key: str) -> bool:
        request = pb.DeleteRequest(namespace=namespace, key=key)
        response: pb.DeleteResponse = await self._ask(self._stub.Delete, request, key)
        return response.deleted

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        request = pb.BatchDeleteRequest(namespace=namespace, keys=keys)
        response: pb.BatchDeleteResponse = await self._ask(self._stub.BatchDelete, request, keys[0])
        return response.removed

    async def clear(self, namespace: str, instance: Instance) -> int:
        """Forget all values that `instance` keeps of a namespace. Returns how many there were."""
        async with self._direct(instance) as channel:
            clear = CacheServiceStub(channel).Clear
            request = pb.ClearRequest(namespace=namespace)
            response: pb.ClearResponse = await self._ask(clear, request, seconds=CLEAR_SECONDS)
        return response.removed

    async def _ask(
        self, rpc: Callable[..., Any], request: Any, key: str | None = None, seconds: float | None = None
    ) -> Any:
        metadata = [_ROUTED] if key is None else [_ROUTED, key_header(request.namespace, key)]
        try:
            return await rpc(request, timeout=seconds or self._seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from error


def _refusal(error: grpc.aio.AioRpcError) -> DomainError:
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidArgument.of("", details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhausted("message", details)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Late("the instance of the cache that has this key did not answer in time")
        case code:
            return Unavailable(f"the instance of the cache that has this key cannot be asked ({code.name})")


def _entry(entry: pb.Entry) -> Entry:
    expires = entry.expire_time.ToNanoseconds() if entry.HasField("expire_time") else None
    return Entry(entry.key, entry.value, entry.version, expires)


def _duration(ttl: int | None) -> Duration | None:
    if ttl is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(ttl)
    return duration
