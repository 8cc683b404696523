"""TLS and mTLS to endpoints, with certificates that are replaced while calls are made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpc.aio import AioRpcError

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from grpc_registry.errors import InvalidTls
from grpc_registry.tls import TlsFiles
from tests.authority import Authority, replace
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoServer, snapshot
from tests.integration.client.load import under_load


def trusted(directory: Path, *authorities: Authority) -> Path:
    return replace(directory / "trusted.pem", b"".join(authority.ca.read_bytes() for authority in authorities))


async def test_certificates_rotate_under_load_without_a_failed_call(tmp_path: Path) -> None:
    """Authority, servers' and client's certificates are all replaced, in the order of a rotation; no call fails."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    ca = trusted(tmp_path, old)
    server_cert, server_key = old.issue("server", address="127.0.0.1")
    client_cert, client_key = old.issue("client")
    for_server = TlsFiles(ca, server_cert, server_key)
    servers = [await EchoServer(f"s{number}").start(for_server.server_credentials()) for number in range(2)]
    resolver = ManualResolver()
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    files = TlsFiles(ca, client_cert, client_key)
    async with Channel("echo", resolver, credentials=files) as channel, under_load(channel, callers=4) as load:
        await all_connected(channel, 2)
        await load.more(50)
        before = [endpoint.line for endpoint in channel._dispatcher.balancer.endpoints]
        trusted(tmp_path, old, new)
        new.issue("server", address="127.0.0.1")
        new.issue("client")
        async with asyncio.timeout(40):
            while len({*before, *(one.line for one in channel._dispatcher.balancer.endpoints)}) < 4:
                await channel._dispatcher.change()
        trusted(tmp_path, new)
        await load.more(200)
    for server in servers:
        await server.stop()
    assert load.errors == []


async def test_a_rotation_that_servers_do_not_trust_is_not_followed(tmp_path: Path) -> None:
    """A client's new certificate that no server trusts yet leaves the connections as they are."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    server_cert, server_key = old.issue("server", address="127.0.0.1")
    client_cert, client_key = old.issue("client")
    server = await EchoServer("s0").start(TlsFiles(old.ca, server_cert, server_key).server_credentials())
    resolver = ManualResolver()
    resolver.push(snapshot(1, server.instance()))
    async with Channel("echo", resolver, credentials=TlsFiles(old.ca, client_cert, client_key)) as channel:
        await all_connected(channel, 1)
        new.issue("client")
        (endpoint,) = channel._dispatcher.balancer.endpoints
        assert await endpoint.renew(1.0) == []
        assert await Echo(channel).unary_unary(b"name", timeout=20) == b"s0"
    await server.stop()


async def test_who_has_no_certificate_is_told_so(tmp_path: Path) -> None:
    """Without a client certificate a server that requires one cannot be connected, and the error says which and why."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server", address="127.0.0.1")
    server = await EchoServer("s0").start(TlsFiles(authority.ca, cert, key).server_credentials())
    resolver = ManualResolver()
    resolver.push(snapshot(1, server.instance()))
    async with Channel("echo", resolver, credentials=TlsFiles(authority.ca)) as channel:
        with pytest.raises(
            AioRpcError, match=f"no endpoint of 'echo': 0 of 1 instances are connected .{server.address}"
        ):
            await Echo(channel).unary_unary(b"name", timeout=10)
    await server.stop()


async def test_files_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    """A path that does not exist is named when the files are given, not when a connection is made."""
    with pytest.raises(InvalidTls, match=r"missing\.pem"):
        TlsFiles(tmp_path / "missing.pem")
