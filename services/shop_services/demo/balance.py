"""The chapters that look behind the counter: which instance answers."""

from __future__ import annotations

from collections import Counter

from grpc_balancer import Channel
from shop.cache.v1 import cache_pb2
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.demo.stage import Stage
from shop_services.demo.story import check, stopwatch
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.tls import OPERATOR, tls_files

_ROUNDS = 100


async def remember(stage: Stage) -> None:
    """A value is kept in the cache by one call and read by another, each through whichever instance it comes to."""
    request = cache_pb2.SetRequest(namespace="default", key=f"basket/{stage.token}", value=b"2 of the dearest")
    request.ttl.FromSeconds(60)
    async with stage.as_operator("cache") as channel:
        stub = CacheServiceStub(channel)
        with stopwatch() as elapsed:
            kept = await stub.Set(request, timeout=5)
        stage.story.did("CacheService.Set", f"{request.key}, version {kept.version}, for 60 s", elapsed())
        with stopwatch() as elapsed:
            found = await stub.Get(cache_pb2.GetRequest(namespace="default", key=request.key), timeout=5)
        check(found.entry.value == request.value, "the cache returns another value")
        stage.story.did("CacheService.Get", found.entry.value.decode(), elapsed())


async def balance(stage: Stage) -> None:
    """One cache instance is given twice the weight of the others, and answers exactly twice as many calls."""
    instances = [listing.instance for listing in await stage.registry.list("cache")]
    favourite = instances[0].id
    weights = {instance.id: 200 if instance.id == favourite else 100 for instance in instances}
    try:
        for instance in instances:
            await stage.registry.edit("cache", instance.id, weight=weights[instance.id])
        tls, credentials = tls_files(stage.settings, OPERATOR, "cache"), operator_credentials(stage.settings)
        async with Channel("cache", stage.registry, policy="weighted_round_robin", credentials=tls) as channel:
            stub = CacheServiceStub(OutgoingChannel(channel, credentials=credentials))
            await _meet_all(stub, set(weights))
            with stopwatch() as elapsed:
                answered = Counter([await _who_answers(stub) for _ in range(_ROUNDS * sum(weights.values()) // 100)])
                seconds = elapsed()
    finally:
        for instance in instances:
            await stage.registry.edit("cache", instance.id, weight=instance.weight)
    shares = ", ".join(f"{one[:6]}… (weight {weight}) {answered[one]}" for one, weight in weights.items())
    stage.story.did(f"{answered.total()} calls of CacheService", shares, seconds)
    expected = {one: _ROUNDS * weight // 100 for one, weight in weights.items()}
    check(answered == expected, f"the calls were not shared by weight: expected {expected}")


async def _meet_all(stub: CacheServiceStub, ids: set[str]) -> None:
    """Call until every instance has answered: while connections are still being made, the first ready one gets more."""
    while ids:
        ids = ids - {await _who_answers(stub)}


async def _who_answers(stub: CacheServiceStub) -> str:
    return (await stub.GetStats(cache_pb2.GetStatsRequest(), timeout=5)).instance_id
