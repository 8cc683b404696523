"""shop.cache.v1.CacheService: protobuf to the store and back, nothing else."""

from __future__ import annotations

from dataclasses import asdict

from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1 import cache_pb2_grpc
from shop_services.cache.domain import Entry
from shop_services.cache.store import Store
from shop_services.runtime.errors import ResourceExhausted
from shop_services.runtime.interceptor import Context

MAX_RESPONSE = 4 * 1024 * 1024
"""Bytes of a message that a client takes unless it was told otherwise: gRPC's `max_receive_message_length`."""
_FRAMING = 8
"""Bytes that an element of a message takes around itself, at most."""


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """Serves a `Store`, in the name of the instance `instance_id`."""

    def __init__(self, store: Store, instance_id: str) -> None:
        self._store = store
        self._instance_id = instance_id

    # Methods are named as the RPCs that they serve.
    # ruff: noqa: N802
    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        entry = self._store.get(request.namespace, request.key)
        return pb.GetResponse() if entry is None else pb.GetResponse(found=True, entry=_to_proto(entry))

    async def Set(self, request: pb.SetRequest, context: Context) -> pb.SetResponse:
        return pb.SetResponse(version=self._store.set(request.namespace, request.key, request.value, _ttl(request)))

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> pb.DeleteResponse:
        return pb.DeleteResponse(deleted=self._store.delete(request.namespace, request.key))

    async def Clear(self, request: pb.ClearRequest, context: Context) -> pb.ClearResponse:
        return pb.ClearResponse(removed=self._store.clear(request.namespace))

    async def BatchGet(self, request: pb.BatchGetRequest, context: Context) -> pb.BatchGetResponse:
        response = pb.BatchGetResponse()
        size = 0
        for key in request.keys:
            entry = self._store.get(request.namespace, key)
            if entry is None:
                response.missing_keys.append(key)
                size += len(key.encode()) + _FRAMING
            else:
                response.entries.append(_to_proto(entry))
                size += response.entries[-1].ByteSize() + _FRAMING
            if (
                size > MAX_RESPONSE
            ):  # sent nevertheless, the client's own gRPC would refuse it without a word about keys
                why = (
                    f"the values found do not fit into a message of {MAX_RESPONSE:,} bytes: ask for fewer keys at once"
                )
                raise ResourceExhausted("message", why)
        return response

    async def BatchSet(self, request: pb.BatchSetRequest, context: Context) -> pb.BatchSetResponse:
        ttl = _ttl(request)
        versions = [self._store.set(request.namespace, item.key, item.value, ttl) for item in request.items]
        return pb.BatchSetResponse(versions=versions)

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        stats = self._store.stats(request.namespace or None)
        namespaces = (pb.NamespaceStats(namespace=name, **asdict(counts)) for name, counts in stats.items())
        return pb.GetStatsResponse(instance_id=self._instance_id, namespaces=namespaces)


def _to_proto(entry: Entry) -> pb.Entry:
    message = pb.Entry(key=entry.key, value=entry.value, version=entry.version)
    if entry.expires is not None:
        message.expire_time.FromNanoseconds(entry.expires)
    return message


def _ttl(request: pb.SetRequest | pb.BatchSetRequest) -> int | None:
    return request.ttl.ToNanoseconds() if request.HasField("ttl") else None
