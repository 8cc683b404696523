"""Public use of `grpc_balancer`, type-checked and never run: what stops to type-check here breaks its users."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import assert_type

import grpc
import grpc.aio
from opentelemetry.metrics import get_meter_provider

import grpc_registry
from grpc_balancer import (
    FAST_KEEPALIVE,
    SERVER_FAST_KEEPALIVE,
    CallInfo,
    Candidate,
    Channel,
    InvalidServiceConfig,
    Load,
    Picker,
    PickerFactory,
    policies,
    register_policy,
)
from grpc_balancer.listener import Listener, ListenerFactory, Observed
from grpc_balancer.otel import Metrics
from grpc_balancer.testing import FakeEndpoint, ManualResolver
from grpc_registry import Instance, Snapshot


class Request:
    def SerializeToString(self) -> bytes:  # as protobuf names it
        raise NotImplementedError


class Response:
    @classmethod
    def FromString(cls, data: bytes) -> Response:
        raise NotImplementedError


class Stub:
    """As a generator writes one."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        raise NotImplementedError


class Tag(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, client_call_details, request):  # type: ignore[no-untyped-def]
        return await continuation(client_call_details, request)


async def calling() -> None:
    async with (
        grpc_registry.connect("etcd://127.0.0.1:2379") as registry,
        Channel("product", registry, policy="least_outstanding") as channel,
    ):
        assert_type(channel, Channel)
        as_grpc: grpc.aio.Channel = channel
        Stub(as_grpc)
        unary = channel.unary_unary("/s/Get", Request.SerializeToString, Response.FromString)
        assert_type(unary, grpc.aio.UnaryUnaryMultiCallable[Request, Response])
        call = unary(Request(), timeout=1.5, metadata=(("key", "value"),), wait_for_ready=True)
        assert_type(await call, Response)
        assert_type(await call.code(), grpc.StatusCode)
        stream = channel.unary_stream("/s/Watch", Request.SerializeToString, Response.FromString)
        async for response in stream(Request()):
            assert_type(response, Response)
        upload = channel.stream_unary("/s/Put", Request.SerializeToString, Response.FromString)
        assert_type(await upload(iter([Request()])), Response)
        both = channel.stream_stream("/s/Talk", Request.SerializeToString, Response.FromString)(several())
        await both.write(Request())
        await both.done_writing()


async def several() -> AsyncIterator[Request]:
    yield Request()


async def configuring(resolver: grpc_registry.Resolver) -> None:
    channel = Channel(
        "product",
        resolver,
        policy="weighted_round_robin",
        service_config={"methodConfig": [{"name": [{"service": "shop.product.v1.ProductService"}], "timeout": "2s"}]},
        credentials=grpc.ssl_channel_credentials(),
        options=[*FAST_KEEPALIVE, ("grpc.max_receive_message_length", -1)],
        interceptors=[Tag()],
        compression=grpc.Compression.Gzip,
        drain_seconds=30,
        rng=random.Random(1),
        clock=lambda: 0.0,
    )
    assert_type(channel.get_state(try_to_connect=True), grpc.ChannelConnectivity)
    assert_type(channel.owner([("x-user", "7")]), Instance | None)
    assert_type(channel.instances, tuple[Instance, ...])
    await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
    await channel.channel_ready()
    await channel.close(grace=5)
    grpc.aio.server(options=SERVER_FAST_KEEPALIVE)
    try:
        Channel("product", resolver, service_config="{}")
    except InvalidServiceConfig as error:
        assert_type((error.path, error.reason), tuple[str, str])


class First:
    def __init__(self, candidates: Sequence[Candidate], rng: random.Random) -> None:
        self._first = candidates[0]

    def pick(self, call: CallInfo) -> Candidate:
        assert_type(call.method, str)
        assert_type(self._first.weight, int)
        assert_type(self._first.instance, Instance)
        assert_type(self._first.load, Load)
        assert_type(self._first.load.count, int)
        return self._first


def least(candidates: Sequence[Candidate], rng: random.Random) -> Picker:
    return First(sorted(candidates, key=lambda candidate: candidate.load.count), rng)


def registering_policies() -> None:
    register_policy("first", First)
    register_policy("least", least)
    factory: PickerFactory = First
    register_policy("again", factory)
    assert_type(policies(), list[str])


def testing() -> None:
    manual = ManualResolver()
    instance = Instance("product", "127.0.0.1:1")
    manual.push(Snapshot("product", 1, (instance,)))
    resolver: grpc_registry.Resolver = manual
    candidate: Candidate = FakeEndpoint(instance, grpc.ChannelConnectivity.READY)
    First([candidate], random.Random())
    Channel("product", resolver)


def counting(resolver: ManualResolver, mine: Listener) -> None:
    metrics: ListenerFactory = Metrics(get_meter_provider(), generic_method_attribute_filter=lambda _: True)
    Channel("product", resolver, metrics=metrics)

    def listen(channel: Observed) -> Listener:
        assert_type(channel.waiting, int)
        return mine

    Channel("product", resolver, metrics=listen)
