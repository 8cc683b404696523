"""Certificates that are replaced under a server and its clients, and under a registry, while they run."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest

import grpc_registry
from grpc_registry import Instance, Snapshot, TlsFiles
from grpc_registry.etcd import lease as leases
from grpc_registry.etcd import member as members
from grpc_registry.etcd import v3
from grpc_registry.waiting import stop
from tests.authority import Authority, replace
from tests.servers import Etcd
from tests.watching import ids, until


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    """The authority that everybody trusts at first."""
    return Authority(tmp_path, "old")


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    """The authority that takes its place. It issues into the same files."""
    return Authority(tmp_path, "new")


@pytest.fixture
async def served(old: Authority, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a server that echoes bytes to clients with a certificate of `trusted.pem`."""
    cert, key = old.issue("server", address="127.0.0.1")
    trusted = replace(tmp_path / "trusted.pem", old.ca.read_bytes())

    async def echo(request: bytes, context: object) -> bytes:
        return request

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler}),))
    port = server.add_secure_port("127.0.0.1:0", TlsFiles(trusted, cert, key).server_credentials())
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def answers(channel: grpc.aio.Channel) -> bool:
    try:
        call: Any = channel.unary_unary("/test.Echo/Echo")
        return bool(await call(b"hello", timeout=30) == b"hello")
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def dial(address: str, files: TlsFiles) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(
        address, files.channel_credentials(), [("grpc.use_local_subchannel_pool", 1), *files.channel_options()]
    )


async def test_a_server_takes_new_certificates_without_a_restart(
    served: str, old: Authority, new: Authority, tmp_path: Path
) -> None:
    """New connections meet the new certificate and the new authority; a connection from before goes on."""
    before = TlsFiles(old.ca, *old.issue("client"))
    async with dial(served, before) as connected:
        assert await answers(connected)
        replace(tmp_path / "trusted.pem", new.ca.read_bytes())
        new.issue("server", address="127.0.0.1")
        old_client = before.read()
        after = TlsFiles(new.ca, *new.issue("client"))
        async with dial(served, after) as anew:
            assert await answers(anew)
        credentials = grpc.ssl_channel_credentials(new.ca.read_bytes(), old_client.key, old_client.cert)
        async with grpc.aio.secure_channel(served, credentials, [("grpc.use_local_subchannel_pool", 1)]) as outdated:
            assert not await answers(outdated)
        assert await answers(connected)


async def test_a_server_in_half_a_rotation_serves_with_the_last_that_fitted(served: str, old: Authority) -> None:
    """New connections come about while the server's certificate has no fitting key."""
    client = TlsFiles(old.ca, *old.issue("client"))
    _, key = old.issue("stranger")
    files = key.parent
    replace(files / "server.key", key.read_bytes())
    async with dial(served, client) as channel:
        assert await answers(channel)


@pytest.fixture
def locked(tmp_path: Path, old: Authority, new: Authority) -> Iterator[Etcd]:
    """An etcd with a certificate of `old`, which it reads again at each handshake, for clients of either authority."""
    cert, key = old.issue("etcd.internal")
    both = replace(tmp_path / "both.pem", old.ca.read_bytes() + new.ca.read_bytes())
    replace(tmp_path / "trusted.pem", old.ca.read_bytes())
    flags = [f"--cert-file={cert}", f"--key-file={key}", "--client-cert-auth", f"--trusted-ca-file={both}"]
    server = Etcd(tmp_path / "etcd", scheme="https", flags=flags)
    # `all_connected_anew` collects garbage again and again: not all that the tests before have left in this process,
    # which takes a busy machine seconds, and nobody here would be heard or answered meanwhile.
    gc.collect()
    gc.freeze()
    try:
        yield server.start()
    finally:
        gc.unfreeze()
        server.kill()


def registry_in(etcd: Etcd, directory: Path) -> grpc_registry.Registry:
    files = f"ca={directory}/trusted.pem&cert={directory}/client.pem&key={directory}/client.key"
    return grpc_registry.connect(f"{etcd.url}?{files}&server_name=etcd.internal", ttl=10, timeout=30, rng=Random(1))


def connections(etcd: Etcd) -> set[int]:
    """The ports of this process that are connected to `etcd`."""
    return {
        connection.laddr.port
        for connection in psutil.Process().net_connections("tcp")
        if connection.raddr and connection.raddr.port == etcd.port and connection.status == psutil.CONN_ESTABLISHED
    }


async def all_connected_anew(etcd: Etcd, before: set[int]) -> None:
    """Return when there are connections, and none of `before`.

    A connection is there as long as a call over it is an object, though it has ended: the error of one that failed may
    hold it, in a cycle, or as what a log line was made of.
    """
    async with asyncio.timeout(60):
        while not (present := connections(etcd)) or present & before:
            await asyncio.sleep(0.05)
            gc.collect()


async def test_a_registry_moves_to_new_certificates_and_loses_nothing(
    locked: Etcd, old: Authority, new: Authority, tmp_path: Path
) -> None:
    """Authority and certificates are replaced step by step under a lease and a watch: the registration is there all the
    time, on the same lease, changes go on to arrive, and afterwards nothing depends on the old ones."""
    old.issue("client")
    async with registry_in(locked, tmp_path) as registry, registry_in(locked, tmp_path) as reader:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await asyncio.wait_for(registration.wait_registered(), 30)
        async with aclosing(reader.watch("product")) as watch:
            await until(watch, lambda snapshot: ids(snapshot) == ["a"])
            lost: list[object] = []

            async def follow() -> None:
                async with aclosing(reader.watch("product")) as other:
                    async for seen in other:
                        lost.extend([] if isinstance(seen, Snapshot) and seen.instances else [seen])

            following = asyncio.create_task(follow())
            before, lease = connections(locked), registry._session.lease  # type: ignore[attr-defined]
            replace(tmp_path / "trusted.pem", old.ca.read_bytes() + new.ca.read_bytes())
            new.issue("client")
            await all_connected_anew(locked, before)  # with the new client certificate, to the old server's
            await registration.update(weight=2)
            await until(watch, lambda snapshot: snapshot.instances[0].weight == 2)

            before = connections(locked)
            new.issue("etcd.internal")
            replace(tmp_path / "trusted.pem", new.ca.read_bytes())
            await all_connected_anew(locked, before)  # to the new server's certificate, trusting nothing else
            await registration.update(weight=3)
            await until(watch, lambda snapshot: snapshot.instances[0].weight == 3)

            assert registration.registered
            assert await leases.keep_alive(registry._connection, lease) == 10  # type: ignore[attr-defined]
            assert registry._session.lease is lease  # type: ignore[attr-defined]
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            assert not lost


async def test_certificates_that_etcd_does_not_take_are_not_moved_to(
    locked: Etcd, old: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate of an authority that etcd does not know leaves the working connection alone, and a good one that
    follows is taken."""
    caplog.set_level(logging.DEBUG, "grpc_registry.etcd.member")
    old.issue("client")
    async with registry_in(locked, tmp_path) as registry:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await asyncio.wait_for(registration.wait_registered(), 30)
        before = connections(locked)
        Authority(tmp_path, "unknown").issue("client")
        async with asyncio.timeout(60):
            while not any("not reached with new certificates" in message for message in caplog.messages):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert before <= connections(locked)
        assert registration.registered
        await registration.update(weight=2)
        caplog.clear()
        old.issue("client")
        await all_connected_anew(locked, before)
        assert registration.registered


async def test_closing_in_the_middle_of_a_move_leaves_no_connection(
    old: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is tried with new certificates is closed, too, when the registry closes meanwhile."""
    tried, closed = asyncio.Event(), []

    class Watched(members.Line):
        async def connects(self, seconds: float) -> bool:
            tried.set()
            return await super().connects(seconds)

        async def close(self) -> None:
            await super().close()
            closed.append(self)

    monkeypatch.setattr(members, "Line", Watched)
    member = members.Member("127.0.0.1:1", TlsFiles(old.ca, *old.issue("client")).follow())
    present = member.open(v3.WATCH, ())._line
    old.issue("client")
    renewing = asyncio.create_task(member.renew())
    await tried.wait()
    await stop(renewing)
    await member.close()
    assert len(closed) == 2
    assert closed[1] is present
