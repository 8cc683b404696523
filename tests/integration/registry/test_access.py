"""Users, passwords and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import grpc_registry
from grpc_registry import Instance, RegistryRefused, RegistryUnavailable, Unresolved
from tests.authority import Authority
from tests.servers import Etcd
from tests.watching import ids, until


@pytest.fixture
def guarded(etcd: Etcd) -> Etcd:
    """An etcd with authentication on: root (password `r:oot/`), and `mesh` (password `m`) for its prefix only."""
    etcd.ctl("user", "add", "root:r:oot/", "--interactive=false")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("user", "add", "mesh:m")
    etcd.ctl("role", "add", "mesh")
    etcd.ctl("role", "grant-permission", "mesh", "readwrite", "mesh/", "--prefix=true")
    etcd.ctl("user", "grant-role", "mesh", "mesh")
    etcd.ctl("auth", "enable")
    return etcd


async def test_a_login_is_used_and_renewed(guarded: Etcd) -> None:
    """Registrations, watches, lists and edits work with user and password, also after a restart of etcd, which forgets
    all tokens."""
    url = f"etcd://mesh:m@{guarded.endpoints}"
    async with grpc_registry.connect(url, timeout=30) as registry, aclosing(registry.watch("product")) as watch:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        await asyncio.to_thread(guarded.kill)
        await until(watch, lambda snapshot: snapshot.stale)
        await asyncio.to_thread(guarded.start)
        await until(watch, lambda snapshot: not snapshot.stale)
        await registration.update(weight=7)
        await until(watch, lambda snapshot: snapshot.instances[0].weight == 7)
        assert [listing.instance.weight for listing in await registry.list()] == [7]
    async with grpc_registry.connect(f"etcd://root:r%3Aoot%2F@{guarded.endpoints}") as registry:
        assert await registry.list() == []


@pytest.mark.parametrize(
    ("login", "prefix", "reason"),
    [
        ("", "mesh", "user name is empty"),
        ("mesh:wrong@", "mesh", "authentication failed, invalid user ID or password"),
        ("mesh:m@", "other", "permission denied"),
    ],
)
async def test_a_refusal_is_told_apart_from_an_outage(
    guarded: Etcd, login: str, prefix: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may not enter is told so, as an operator, and as a reader that knows nothing yet."""
    async with grpc_registry.connect(f"etcd://{login}{guarded.endpoints}/{prefix}", timeout=30) as registry:
        with pytest.raises(RegistryRefused, match=reason):
            await registry.list()
        async with aclosing(registry.watch("product")) as watch, asyncio.timeout(30):
            while True:
                told = await anext(watch)
                assert isinstance(told, Unresolved)
                if reason in told.reason:  # before, a busy machine may have been late with its answer
                    break
    assert len([message for message in caplog.messages if "refuses" in message]) == 1


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def locked(tmp_path: Path, authority: Authority) -> Iterator[Etcd]:
    """An etcd that speaks TLS as `etcd.internal` and asks clients for a certificate."""
    certificate, key = authority.issue("etcd.internal")
    flags = [
        f"--cert-file={certificate}",
        f"--key-file={key}",
        "--client-cert-auth",
        f"--trusted-ca-file={authority.ca}",
    ]
    server = Etcd(tmp_path / "etcd", scheme="https", flags=flags)
    try:
        yield server.start()
    finally:
        server.kill()


async def test_mutual_tls(locked: Etcd, authority: Authority) -> None:
    """With authority, certificate, key and the server's name in the URL everything works over TLS."""
    certificate, key = authority.issue("client")
    url = f"{locked.url}?ca={authority.ca}&cert={certificate}&key={key}&server_name=etcd.internal"
    async with grpc_registry.connect(url) as registry:
        await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
        assert [listing.instance.id for listing in await registry.list()] == ["a"]


@pytest.mark.parametrize("missing", ["certificate", "name", "tls"])
async def test_tls_that_does_not_fit_is_unavailable(locked: Etcd, authority: Authority, missing: str) -> None:
    """Without a certificate, with another name than the server's, or without TLS there is no answer, and no crash."""
    certificate, key = authority.issue("client")
    query = f"?ca={authority.ca}"
    query += "" if missing == "certificate" else f"&cert={certificate}&key={key}"
    query += "" if missing == "name" else "&server_name=etcd.internal"
    url = f"etcd://{locked.endpoints}" if missing == "tls" else locked.url + query
    async with grpc_registry.connect(url, timeout=1) as registry:
        with pytest.raises(RegistryUnavailable):
            await registry.list()
