"""Real servers that let nobody in without a certificate, and what it takes to ask one of them something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol, cast

import sqlalchemy as sa
from redis.asyncio import Redis

import grpc_registry
from shop_services.caching.redis_pool import redis_pool
from shop_services.messaging.jetstream.connection import Connection
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import client_tls, registry_url, server_tls
from shop_services.storage import Database
from tests.servers import Etcd, Nats, Postgres, Valkey, free_port
from tests.servers.process import exchange

PATIENCE = 15.0
"""Seconds that a client waits for its server, which answers in milliseconds, on a busy machine."""

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""What a client of PostgreSQL begins with that wants encryption."""


class Asking(Protocol):
    """A client that lives for long, as those of services do."""

    async def __call__(self) -> None:
        """Ask the server something. Raises whatever says that it did not answer."""


class Secured(Protocol):
    """A kind of server, with the certificates in a directory."""

    async def start(self) -> None:
        """Start it with the certificates that there are now."""

    async def kill(self) -> None:
        """End it, with all connections."""

    def asking(self, settings: Settings, stack: AsyncExitStack) -> Asking:
        """A client with these settings, closed with the stack; without `tls_dir` a plain one."""

    def settings(self, directory: Path | None, data: Path) -> Settings:
        """What names the server for a client, encrypted if it has a directory of certificates."""


class SecureEtcd:
    """etcd, as `shop up --tls` has it."""

    def __init__(self, certificates: Path, data: Path) -> None:
        flags = [
            "--client-cert-auth",
            f"--trusted-ca-file={certificates}/ca.pem",
            f"--cert-file={certificates}/etcd.pem",
            f"--key-file={certificates}/etcd.key",
        ]
        self._server = Etcd(data / "etcd", scheme="https", flags=flags)

    async def start(self) -> None:
        self._server.start()

    async def kill(self) -> None:
        self._server.kill()

    def settings(self, directory: Path | None, data: Path) -> Settings:
        scheme = "etcd" if directory is None else "etcds"
        url = f"{scheme}://127.0.0.1:{self._server.port}"
        return Settings(registry_url=url, nats_url="memory://", tls_dir=directory, data=data)

    def asking(self, settings: Settings, stack: AsyncExitStack) -> Asking:
        registry = grpc_registry.connect(registry_url(settings, "user"), timeout=PATIENCE, rng=Random(1))
        stack.push_async_exit(registry)

        async def ask() -> None:
            await registry.list("user")

        return ask


class _TlsNats(Nats):
    certificates = Path()

    def ready(self) -> bool:
        return b" 200 OK" in exchange(self._monitor, b"GET /healthz HTTP/1.0\r\n\r\n")

    def _config(self) -> dict[str, object]:
        files = {
            "ca_file": f"{self.certificates}/ca.pem",
            "cert_file": f"{self.certificates}/nats.pem",
            "key_file": f"{self.certificates}/nats.key",
        }
        return {**super()._config(), "tls": {**files, "verify": True, "handshake_first": True}}


class SecureNats:
    """NATS, as `shop up --tls` has it."""

    def __init__(self, certificates: Path, data: Path) -> None:
        self._server = _TlsNats(data / "nats")
        self._server.certificates = certificates

    async def start(self) -> None:
        self._server.start()

    async def kill(self) -> None:
        self._server.kill()

    def settings(self, directory: Path | None, data: Path) -> Settings:
        scheme = "nats" if directory is None else "tls"
        url = f"{scheme}://127.0.0.1:{self._server.port}"
        return Settings(registry_url="memory://", nats_url=url, tls_dir=directory, data=data)

    def asking(self, settings: Settings, stack: AsyncExitStack) -> Asking:
        tls = client_tls(settings, "user", "nats")
        connection = Connection(settings.nats_url, name="tester", rng=Random(1), tls=tls)
        stack.push_async_callback(connection.close)

        async def ask() -> None:
            link = await connection.link(PATIENCE)
            async with link.wait(PATIENCE):
                await link.client.flush()

        return ask


class _Front:
    """Ends the encryption before a server of a wheel that was built without it."""

    def __init__(self, certificates: Path, name: str) -> None:
        self._settings = Settings(registry_url="memory://", nats_url="memory://", tls_dir=certificates)
        self._name = name
        self._stack = AsyncExitStack()
        self.port = free_port()  # which it keeps over `close` and `start`

    async def start(self, behind: int, *, asked_for: bytes = b"", agreed: bytes = b"") -> None:
        """Pass on what comes to the port `behind`. A client that asks for encryption in plain text is told `agreed`."""
        tls = server_tls(self._settings, self._name, require_client_cert=True)
        assert tls is not None

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if asked_for:
                    if await reader.readexactly(len(asked_for)) != asked_for:
                        return
                    writer.write(agreed)
                    await writer.start_tls(tls)
                inside_reader, inside_writer = await asyncio.open_connection("127.0.0.1", behind)
                await asyncio.gather(_copy(reader, inside_writer), _copy(inside_reader, writer))
            except (OSError, asyncio.IncompleteReadError):  # who has no certificate
                pass
            finally:
                writer.close()

        front = await asyncio.start_server(serve, "127.0.0.1", self.port, ssl=None if asked_for else tls)
        self._stack.callback(front.close)

    async def close(self) -> None:
        await self._stack.aclose()


class SecurePostgres:
    """PostgreSQL behind a front, which does what `hostssl … clientcert=verify-ca` does."""

    def __init__(self, certificates: Path, _data: Path) -> None:
        self._server = Postgres()
        self._front = _Front(certificates, "postgres")

    async def start(self) -> None:
        self._server.start()
        await self._front.start(self._server.port, asked_for=_SSL_REQUEST, agreed=b"S")

    async def kill(self) -> None:
        self._server.stop()  # those who are connected notice by that
        await self._front.close()

    def remove(self) -> None:
        self._server.remove()

    def settings(self, directory: Path | None, data: Path) -> Settings:
        url = f"postgresql://shop@127.0.0.1:{self._front.port}/postgres"
        return Settings(registry_url="memory://", nats_url="memory://", database_url=url, tls_dir=directory, data=data)

    def asking(self, settings: Settings, stack: AsyncExitStack) -> Asking:
        database = Database.of(settings, "user")
        stack.push_async_exit(database)

        async def ask() -> None:
            async with database.reading() as connection:
                await connection.execute(sa.text("SELECT 1"))

        return ask


class SecureValkey:
    """Valkey behind a front."""

    def __init__(self, certificates: Path, data: Path) -> None:
        self._server = Valkey(data / "valkey")
        self._front = _Front(certificates, "valkey")

    async def start(self) -> None:
        self._server.start()
        await self._front.start(self._server.port)

    async def kill(self) -> None:
        self._server.kill()  # those who are connected notice by that
        await self._front.close()

    def settings(self, directory: Path | None, data: Path) -> Settings:
        url = f"{'redis' if directory is None else 'rediss'}://127.0.0.1:{self._front.port}/0"
        return Settings(registry_url="memory://", nats_url="memory://", cache_url=url, tls_dir=directory, data=data)

    def asking(self, settings: Settings, stack: AsyncExitStack) -> Asking:
        tls = client_tls(settings, "cache")
        redis = Redis.from_pool(redis_pool(settings.cache_url, connections=1, timeout=PATIENCE, tls=tls))
        stack.push_async_callback(redis.aclose)

        async def ask() -> None:
            await redis.ping()

        return ask


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


KINDS = {"etcd": SecureEtcd, "nats": SecureNats, "postgres": SecurePostgres, "valkey": SecureValkey}


@dataclass
class Place:
    """A started server, and the directory of the certificates that it and its clients have."""

    server: Secured
    certificates: Path
    data: Path

    def settings(self, directory: Path | None) -> Settings:
        return self.server.settings(directory, self.data)


@asynccontextmanager
async def started(kind: str, certificates: Path, data: Path) -> AsyncIterator[Place]:
    """A server of a kind, ended with the block."""
    server: Secured = cast("Secured", KINDS[kind](certificates, data))
    try:
        await server.start()
        yield Place(server, certificates, data)
    finally:
        await server.kill()
        if isinstance(server, SecurePostgres):
            server.remove()
