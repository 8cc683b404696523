"""The cache service as a cache, without the service: how its calls are spread, and the namespaces that it may name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from grpc_registry import Instance
from shop.cache.v1 import cache_pb2 as pb
from shop_services.caching.errors import InvalidKey
from shop_services.caching.service import ServiceCache

SECONDS = 10
KEYS = ["a1", "b1", "a2", "b2"]


class FakeChannel:
    """To two owners, of which each answers a batch when the other has one too. Keys begin with their owner's name."""

    def __init__(self) -> None:
        self._together = asyncio.Barrier(2)
        self.batches: list[list[str]] = []

    def owner(self, metadata: Sequence[tuple[str, str]]) -> Instance:
        ((_, key),) = metadata
        return Instance("cache", "10.0.0.1:1", id=key.rpartition("/")[2][0])

    def unary_unary(self, method: str, **_: object) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, **_: object) -> Any:
            if isinstance(request, pb.BatchSetRequest):
                await self._meet([item.key for item in request.items])
                return pb.BatchSetResponse()
            await self._meet(request.keys)
            return pb.BatchGetResponse(entries=[pb.Entry(key=key, value=b"1") for key in request.keys])

        return call

    async def _meet(self, keys: Sequence[str]) -> None:
        self.batches.append(list(keys))
        await self._together.wait()


async def test_owners_are_asked_in_parallel() -> None:
    """Of several keys each owner gets its own in one call, and none waits for the answer to another's."""
    channel = FakeChannel()
    cache = ServiceCache(channel, "n", timeout=SECONDS)  # type: ignore[arg-type]  # a fake
    await cache.multi_set([(key, 1) for key in KEYS])
    assert await cache.multi_get(KEYS) == [1] * len(KEYS)
    assert sorted(channel.batches) == [["a1", "a2"], ["a1", "a2"], ["b1", "b2"], ["b1", "b2"]]


@pytest.mark.parametrize("namespace", ["a b", "a/b", "ключ", "a\n", "x" * 65, "", None])
def test_a_namespace_that_the_service_cannot_have_is_refused(namespace: Any) -> None:
    """When the cache is made, not in each of its calls."""
    with pytest.raises(InvalidKey, match=r"^namespace .*(letters, digits|at least 1|a str)"):
        ServiceCache(FakeChannel(), namespace)  # type: ignore[arg-type]  # a fake
