"""gRPC between services with certificates: who is who, who is let in, and what a renewal costs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot
from shop.access.v1.access_pb2 import Access
from shop_services.caching.direct import direct_channel
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.identity.caller import caller
from shop_services.runtime.outgoing import service_channel
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.tls import server_credentials, tls_files
from tests.integration.client.conftest import all_connected
from tests.integration.tls.conftest import Make
from tests.unit.services.runtime.ruled import add_service

SERVICE, METHOD = "payment", "/tls.Vault/Open"
add_service("tls.Vault", {"Open": Access(services=["order"])})


def settings(directory: Path, data: Path) -> Settings:
    return Settings(registry_url="memory://", nats_url="memory://", tls_dir=directory, data=data)


async def say_who(_request: StringValue, _context: grpc.aio.ServicerContext[Any, Any]) -> StringValue:
    return StringValue(value=repr(caller()))


def add_vault(server: grpc.aio.Server) -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        say_who, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
    )
    server.add_registered_method_handlers("tls.Vault", {"Open": handler})


@asynccontextmanager
async def vault(here: Settings) -> AsyncIterator[Instance]:
    """An instance of `payment`, which opens for the order service alone, and says who came."""
    app = App(SERVICE, {"tls.Vault": add_vault}, authority=Authority.open(here, SERVICE))
    server = make_server(app)
    credentials = server_credentials(here, SERVICE)
    assert credentials is not None
    port = server.grpc.add_secure_port("127.0.0.1:0", credentials)
    await server.grpc.start()
    try:
        yield Instance(SERVICE, f"127.0.0.1:{port}")
    finally:
        await server.grpc.stop(None)


async def open_by(channel: grpc.aio.Channel, **options: Any) -> str:
    multicallable = channel.unary_unary(METHOD, StringValue.SerializeToString, StringValue.FromString)
    answer: StringValue = await multicallable(StringValue(), timeout=30, **options)
    return answer.value


async def test_a_service_is_who_its_certificate_says(certificates: Path, tmp_path: Path) -> None:
    """The order service is let in by its certificate, no token needed; the cache is not, nor the order service's token
    over the cache's connection, and the gateway is nobody by itself."""
    here = settings(certificates, tmp_path)
    async with vault(here) as instance, AsyncExitStack() as stack:

        async def connected(name: str) -> grpc.aio.Channel:
            return await stack.enter_async_context(direct_channel(instance, tls_files(here, name, SERVICE)))

        assert await open_by(await connected("order")) == "Service(name='order')"
        plain = Settings(registry_url="memory://", nats_url="memory://", data=tmp_path)
        token = Authority.open(plain, "order").credentials_for(SERVICE)()
        for name, metadata, expected in (
            ("cache", (), grpc.StatusCode.PERMISSION_DENIED),
            ("cache", token, grpc.StatusCode.UNAUTHENTICATED),
            ("order", token, grpc.StatusCode.UNAUTHENTICATED),
            ("gateway", (), grpc.StatusCode.UNAUTHENTICATED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await open_by(await connected(name), metadata=metadata)
            assert caught.value.code() is expected, (name, caught.value.details())


async def test_nobody_comes_in_without_a_certificate(certificates: Path, foreign: Path, tmp_path: Path) -> None:
    """Plain text, no certificate, and one of another authority all end in the handshake."""
    here = settings(certificates, tmp_path)
    async with vault(here) as instance, AsyncExitStack() as stack:
        ours = (certificates / "ca.pem").read_bytes()
        options = [("grpc.ssl_target_name_override", "payment.shop.internal")]
        strangers = [
            direct_channel(instance),
            grpc.aio.secure_channel(instance.address, grpc.ssl_channel_credentials(ours), options=options),
            direct_channel(instance, tls_files(settings(foreign, tmp_path), "order", SERVICE)),
        ]
        for channel in strangers:
            await stack.enter_async_context(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await open_by(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_another_service_does_not_pass_for_the_one_called(certificates: Path, tmp_path: Path) -> None:
    """A server that has a good certificate, but of another service, gets no call."""
    here = settings(certificates, tmp_path)
    async with vault(here) as instance, direct_channel(instance, tls_files(here, "order", "user")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await open_by(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewal_under_traffic_loses_no_call(certificates: Path, make: Make, tmp_path: Path) -> None:
    """All certificates are replaced while calls are made, and connections move to them: not one call fails."""
    here = settings(certificates, tmp_path)
    resolver = ManualResolver()
    async with (
        vault(here) as one,
        vault(here) as other,
        service_channel(SERVICE, resolver, here, Authority.open(here, "order")) as channel,
    ):
        resolver.push(Snapshot(SERVICE, 1, (one, other)))
        inner = channel._inner
        assert isinstance(inner, Channel)
        await all_connected(inner, 2)
        first = connections_of(inner)
        calls = [0] * 4
        flowing, stop = asyncio.Event(), asyncio.Event()

        async def call(caller: int) -> None:
            while not stop.is_set():
                assert await open_by(channel) == "Service(name='order')"
                calls[caller] += 1
                if min(calls) > 10:
                    flowing.set()

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for caller in range(len(calls)):
                tasks.create_task(call(caller))
            await flowing.wait()
            make(certificates.name)
            while first & connections_of(inner):
                await inner._dispatcher.change()
            flowing.clear()
            await flowing.wait()  # over the new connections, too
            stop.set()


def connections_of(channel: Channel) -> set[Any]:
    """The connections of the channel's endpoints; kept, they are not taken for new ones."""
    return {endpoint.line for endpoint in channel._dispatcher.balancer.endpoints}


@pytest.mark.parametrize("name", ["ca.pem", "order.pem", "order.key"])
def test_what_is_missing_is_named_at_the_start(certificates: Path, tmp_path: Path, name: str) -> None:
    """A directory without one of the files is refused with the variable, the file, and what makes it."""
    incomplete = shutil.copytree(certificates, tmp_path / "incomplete")
    (incomplete / name).unlink()
    make_server = partial(server_credentials, settings(incomplete, tmp_path), "order")
    with pytest.raises(SettingError, match=rf"SHOP_TLS_DIR: .*{name}.*`shop certs DIR`"):
        make_server()
