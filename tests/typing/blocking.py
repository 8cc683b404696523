"""The blocking channel as users' type checkers see it: checked by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type

import grpc

import grpc_registry
from grpc_balancer import deadlines, sync
from grpc_balancer.testing import ManualResolver


def channels(credentials: grpc.ChannelCredentials) -> None:
    by_url = sync.Channel("product", "etcd://127.0.0.1:2379", policy="round_robin", credentials=credentials)
    plain: grpc.Channel = by_url
    grpc.intercept_channel(plain)
    sync.Channel("product", lambda: grpc_registry.connect("etcd://127.0.0.1:2379", prefix="other"))
    sync.Channel("product", ManualResolver)
    sync.Channel("product", ManualResolver, polizy="random")  # type: ignore[call-arg]
    sync.Channel("product", 7)  # type: ignore[arg-type]
    with by_url as channel:
        assert_type(channel, sync.Channel)


def errors(error: sync.CallError) -> None:
    rpc: grpc.RpcError = error
    call: grpc.Call = error
    assert_type(rpc.code(), grpc.StatusCode)
    assert_type(call.code(), grpc.StatusCode)
    assert_type(error.debug_error_string(), str)


def in_the_loop(resolver: ManualResolver) -> None:
    assert_type(sync.in_loop(resolver.readers, "product"), int)


def inherited(call: Any) -> None:
    assert_type(deadlines.remaining(), float | None)
    with deadlines.ignored():
        call()
    grpc.aio.server(interceptors=[deadlines.DeadlineInterceptor()])
