"""What one peer may do to a server on a connection."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
import pytest

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot
from shop.user.v1 import user_pb2, user_pb2_grpc
from shop_services.runtime import server as runtime_server
from shop_services.runtime.app import App
from shop_services.runtime.overload import Bounds, Concurrency, ConcurrencyLimit
from shop_services.runtime.server import OPTIONS, make_server
from shop_services.runtime.testing import running
from tests.unit.services.runtime.probe import Context, failure

NAME = "shop.user.v1.UserService"


class Servicer(user_pb2_grpc.UserServiceServicer):
    """Logs everybody out, and remembers how many asked at once, and over which connections."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.peers = set[str]()
        self.go: asyncio.Event | None = None  # what they wait for; None: a moment

    async def Logout(self, request: user_pb2.LogoutRequest, context: Context) -> user_pb2.LogoutResponse:
        self.peers.add(context.peer())
        self.now += 1
        self.most = max(self.most, self.now)
        await (asyncio.sleep(0.02) if self.go is None else self.go.wait())
        self.now -= 1
        return user_pb2.LogoutResponse()


def app_of(servicer: Servicer) -> App:
    return App("user", {NAME: partial(user_pb2_grpc.add_UserServiceServicer_to_server, servicer)})


REQUEST = user_pb2.LogoutRequest(refresh_token="t" * 50)


async def test_headers_and_messages_have_a_size() -> None:
    """Metadata of 20 KB and messages of 5 MB are RESOURCE_EXHAUSTED, and the connection serves on."""
    async with running(app_of(Servicer())) as channel:  # type: ignore[abstract]  # the others stay as generated
        stub = user_pb2_grpc.UserServiceStub(channel)
        error = await failure(stub.Logout(REQUEST, metadata=(("x-large", "a" * 20_000),)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        large = user_pb2.LogoutRequest(refresh_token="t" * 5_000_000)
        error = await failure(stub.Logout(large))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await stub.Logout(REQUEST)


async def test_a_connection_that_is_replaced_for_its_age_loses_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends each connection after a second, under calls all the while: every call succeeds."""
    aged = dict(OPTIONS) | {"grpc.max_connection_age_ms": 1000}
    monkeypatch.setattr(runtime_server, "OPTIONS", tuple(aged.items()))
    servicer = Servicer()  # type: ignore[abstract]
    server = make_server(app_of(servicer))
    address = f"127.0.0.1:{server.grpc.add_insecure_port('127.0.0.1:0')}"
    await server.grpc.start()
    resolver = ManualResolver()
    resolver.push(Snapshot("user", 1, (Instance("user", address),)))
    async with Channel("user", resolver) as channel:
        call: Any = user_pb2_grpc.UserServiceStub(channel).Logout

        async def caller() -> None:
            while len(servicer.peers) < 4:
                await call(REQUEST, timeout=20, wait_for_ready=True)

        async with asyncio.timeout(60):
            await asyncio.gather(*(caller() for _ in range(8)))
    await server.grpc.stop(None)


async def test_a_server_works_on_as_many_as_its_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """make_server puts the limit in front of all else: what is too much is refused, and the metrics tell."""
    limited = Concurrency(ConcurrencyLimit(Bounds(least=3, first=3, most=3)))
    monkeypatch.setattr(runtime_server, "Concurrency", lambda: limited)
    servicer = Servicer()  # type: ignore[abstract]
    servicer.go = asyncio.Event()
    async with running(app_of(servicer)) as channel:
        stub = user_pb2_grpc.UserServiceStub(channel)
        calls = [asyncio.ensure_future(stub.Logout(REQUEST)) for _ in range(30)]
        async with asyncio.timeout(30):
            while sum(call.done() for call in calls) < 27:  # those that are let in wait for all others to be refused
                await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
        servicer.go.set()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert servicer.most == 3
    assert limited.limit.refused == len(refused) == 27
