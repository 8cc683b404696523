"""shop.cache.v1.CacheService: protobuf to the values and back. Names and sizes are checked here, for any values."""

from __future__ import annotations

from dataclasses import asdict

from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1 import cache_pb2_grpc
from shop_services.cache.backend import Values
from shop_services.cache.domain import Entry, Namespace
from shop_services.cache.limits import AnswerSize
from shop_services.cache.namespaces import Namespaces, check_fits
from shop_services.caching.bounded import Policy
from shop_services.caching.ring import ROUTED_HEADER
from shop_services.runtime.interceptor import Context

_POLICIES: dict[Policy | None, pb.EvictionPolicy.ValueType] = {
    None: pb.EVICTION_POLICY_UNSPECIFIED,
    "lru": pb.EVICTION_POLICY_LRU,
    "lfu": pb.EVICTION_POLICY_LFU,
    "fifo": pb.EVICTION_POLICY_FIFO,
}


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """Serves the namespaces, in the name of the instance `instance_id`.

    `local` are the values that this instance answers for itself; `shared` those of all instances together, which a call
    is answered from that was not routed to this instance in particular.
    """

    def __init__(
        self, namespaces: Namespaces, local: Values, instance_id: str, *, shared: Values | None = None
    ) -> None:
        self._namespaces = namespaces
        self._local = local
        self._shared = shared or local
        self._instance_id = instance_id

    # Methods are named as the RPCs that they serve.
    # ruff: noqa: N802
    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        space = self._namespaces.find(request.namespace)
        entry = await self._values(context).get(space.name, request.key)
        return pb.GetResponse() if entry is None else pb.GetResponse(found=True, entry=_to_proto(entry))

    async def Set(self, request: pb.SetRequest, context: Context) -> pb.SetResponse:
        space = self._namespaces.find(request.namespace)
        check_fits(space, request.key, request.value, "value")
        values = self._values(context)
        return pb.SetResponse(version=await values.set(space.name, request.key, request.value, _ttl(request, space)))

    async def CompareAndSet(self, request: pb.CompareAndSetRequest, context: Context) -> pb.CompareAndSetResponse:
        space = self._namespaces.find(request.namespace)
        check_fits(space, request.key, request.value, "value")
        swap = await self._values(context).compare_and_set(
            space.name, request.key, request.value, _ttl(request, space), request.expected_version
        )
        return pb.CompareAndSetResponse(swapped=swap.swapped, version=swap.version)

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> pb.DeleteResponse:
        space = self._namespaces.find(request.namespace)
        return pb.DeleteResponse(deleted=await self._values(context).delete(space.name, request.key))

    async def Clear(self, request: pb.ClearRequest, context: Context) -> pb.ClearResponse:
        space = self._namespaces.find(request.namespace)
        return pb.ClearResponse(removed=await self._values(context).clear(space.name))

    async def BatchGet(self, request: pb.BatchGetRequest, context: Context) -> pb.BatchGetResponse:
        space = self._namespaces.find(request.namespace)
        entries = await self._values(context).get_many(space.name, request.keys)
        response, size = pb.BatchGetResponse(), AnswerSize()
        for key, entry in zip(request.keys, entries, strict=True):
            if entry is None:
                response.missing_keys.append(key)
                size.add(len(key.encode()))
            else:
                response.entries.append(_to_proto(entry))
                size.add(response.entries[-1].ByteSize())
        return response

    async def BatchSet(self, request: pb.BatchSetRequest, context: Context) -> pb.BatchSetResponse:
        space = self._namespaces.find(request.namespace)
        for number, item in enumerate(request.items):
            check_fits(space, item.key, item.value, f"items[{number}].value")
        items = [(item.key, item.value) for item in request.items]
        versions = await self._values(context).set_many(space.name, items, _ttl(request, space))
        return pb.BatchSetResponse(versions=versions)

    async def BatchDelete(self, request: pb.BatchDeleteRequest, context: Context) -> pb.BatchDeleteResponse:
        space = self._namespaces.find(request.namespace)
        return pb.BatchDeleteResponse(removed=await self._values(context).delete_many(space.name, request.keys))

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        wanted = [self._namespaces.find(request.namespace)] if request.namespace else self._namespaces.values()
        stats = await self._local.stats()
        response = pb.GetStatsResponse(instance_id=self._instance_id)
        for space in wanted:
            told = response.namespaces.add(
                namespace=space.name,
                policy=_POLICIES[space.policy],
                max_entries=space.max_entries,
                max_bytes=space.max_bytes,
                **asdict(stats[space.name]),
            )
            if space.ttl is not None:
                told.default_ttl.FromNanoseconds(space.ttl)
        return response

    def _values(self, context: Context) -> Values:
        routed = any(header == ROUTED_HEADER for header, _ in context.invocation_metadata() or ())
        return self._local if routed else self._shared


def _to_proto(entry: Entry) -> pb.Entry:
    message = pb.Entry(key=entry.key, value=entry.value, version=entry.version)
    if entry.expires is not None:
        message.expire_time.FromNanoseconds(entry.expires)
    return message


def _ttl(request: pb.SetRequest | pb.BatchSetRequest | pb.CompareAndSetRequest, space: Namespace) -> int | None:
    return request.ttl.ToNanoseconds() if request.HasField("ttl") else space.ttl
