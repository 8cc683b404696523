"""Readiness, with real servers and the registry in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from grpc_registry import Instance, Listing, Registry, RegistryRefused
from grpc_registry.connecting import connect
from shop_services.launch.errors import LaunchError, NotReady
from shop_services.launch.ports import LOOPBACK
from shop_services.launch.probes import http_get
from shop_services.launch.program import Part, Program
from shop_services.launch.readiness import Instances as Probes
from shop_services.launch.readiness import answers, part_channel, wait_ready
from shop_services.runtime.settings import Settings
from tests.integration.client.proxy import Proxy
from tests.unit.services.caching.virtual_time import in_virtual_time

Status = health_pb2.HealthCheckResponse
SETTINGS = Settings()
ready_now = partial(answers, settings=SETTINGS)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with connect("memory://") as registry:
        yield registry


@pytest.fixture
async def probes(registry: Registry) -> AsyncIterator[Probes]:
    async with Probes(registry, SETTINGS) as probes:
        yield probes


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take its time: none here is one that never comes."""
    for module in ("probes", "readiness"):
        monkeypatch.setattr(f"shop_services.launch.{module}._TIMEOUT", 30.0)


class Refused:
    """Asks `is_ready`, and tells when that has said no."""

    def __init__(self, is_ready: Callable[[Part], Awaitable[bool]]) -> None:
        self._is_ready = is_ready
        self._refused = asyncio.Event()

    async def __call__(self, part: Part) -> bool:
        ready = await self._is_ready(part)
        if not ready:
            self._refused.set()
        return ready

    async def again(self) -> None:
        """Return when it has said no from now on."""
        self._refused.clear()
        async with asyncio.timeout(20):
            await self._refused.wait()


class Instances:
    """Servers that only know their health, and HTTP servers that always answer the same."""

    def __init__(self, directory: Path) -> None:
        self.stack = AsyncExitStack()
        self._directory = directory

    async def grpc(self, name: str, status: int) -> tuple[Part, health.aio.HealthServicer]:
        server = grpc.aio.server()
        servicer = health.aio.HealthServicer()
        await servicer.set("", status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        await server.start()
        self.stack.push_async_callback(server.stop, None)
        return self.part(name, f"{LOOPBACK}:{port}"), servicer

    async def http(self, name: str, status: str) -> Part:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            writer.write(b"HTTP/1.1 " + (status if b" /readyz " in line else "404 x").encode() + b"\r\n\r\nbody")
            writer.close()

        server = await asyncio.start_server(answer, LOOPBACK, 0)
        self.stack.push_async_callback(server.wait_closed)
        self.stack.callback(server.close)
        return self.part(name, f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}")

    def part(self, name: str, address: str) -> Part:
        return Part(name.partition("-")[0], address, Program(name, (), {}, self._directory / f"{name}.log"))


@pytest.fixture
async def instances(tmp_path: Path) -> AsyncIterator[Instances]:
    instances = Instances(tmp_path)
    async with instances.stack:
        yield instances


async def test_waits_for_the_registration(instances: Instances, registry: Registry, probes: Probes) -> None:
    """An instance that serves is not ready before it is registered at its address, under its service."""
    part, _ = await instances.grpc("user-1", Status.SERVING)
    registry.register(Instance("product", part.address))
    assert await probes._healthy(part)
    serve = Refused(probes.serve)
    waiting = asyncio.create_task(wait_ready([part], serve, seconds=20))
    await serve.again()
    assert not waiting.done()

    registry.register(Instance("user", part.address))
    await waiting


async def test_waits_for_health(instances: Instances, registry: Registry, probes: Probes) -> None:
    """An instance that is registered is not ready before its health says SERVING."""
    part, servicer = await instances.grpc("user-1", Status.NOT_SERVING)
    registry.register(Instance("user", part.address))
    serve = Refused(probes.serve)
    waiting = asyncio.create_task(wait_ready([part], serve, seconds=20))
    await serve.again()
    assert not waiting.done()

    await servicer.set("", Status.SERVING)
    await waiting


async def test_a_gateway_is_ready_when_readyz_says_so(instances: Instances) -> None:
    """A gateway is asked over HTTP, and any status but 200 means that it is not ready."""
    await wait_ready([await instances.http("gateway-1", "200 OK")], ready_now, seconds=20)
    assert not await ready_now(await instances.http("gateway-2", "503 no backend"))


@pytest.mark.parametrize(
    ("name", "ready", "not_ready"),
    [
        ("nats", b'INFO {"server_id":"x","jetstream":true}\r\n', b'INFO {"server_id":"x"}\r\n'),
        ("mail", b"220 shop SMTP\r\n", b"421 too busy\r\n"),
    ],
)
async def test_a_server_is_ready_when_it_greets(
    instances: Instances, name: str, ready: bytes, not_ready: bytes
) -> None:
    """NATS is ready when it says that it has JetStream, a mail server when it says 220; silence is not ready."""
    greets = not_ready

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greets)
        writer.close()

    async with await asyncio.start_server(greet, LOOPBACK, 0) as server:
        part = instances.part(name, f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}")
        assert not await ready_now(part)
        greets = b""
        assert not await ready_now(part)
        greets = ready
        assert await ready_now(part)
    assert not await ready_now(part)


async def test_who_does_not_answer_is_not_ready(instances: Instances, probes: Probes) -> None:
    """An instance of which nobody listens where it should be, as it is before it has started."""
    assert not await probes.serve(instances.part("order-2", f"{LOOPBACK}:9"))


async def test_a_connection_may_take_its_time(instances: Instances) -> None:
    """A call over a new channel waits for a handshake that takes longer than a refused connection is left alone."""
    part, _ = await instances.grpc("product-1", Status.SERVING)
    proxy = await Proxy(int(part.address.rpartition(":")[2])).start()
    proxy.back.delay = 0.3
    async with part_channel(instances.part("product-1", f"{LOOPBACK}:{proxy.port}"), SETTINGS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert answer.status == Status.SERVING
    await proxy.stop()


@in_virtual_time
async def test_names_who_is_not_ready_with_the_end_of_its_log(tmp_path: Path) -> None:
    """At the deadline the error names those that are not ready, and shows what the first of them wrote last."""
    instances = Instances(tmp_path)
    late = [instances.part(name, f"{LOOPBACK}:9") for name in ("order-2", "user-2")]
    (tmp_path / "order-2.log").write_text("starting\ndatabase is locked\n")

    async def is_ready(part: Part) -> bool:
        return part not in late

    with pytest.raises(NotReady) as caught:
        await wait_ready([instances.part("user-1", f"{LOOPBACK}:9"), *late], is_ready, seconds=20)

    assert str(caught.value).startswith("not ready after 20 s: order-2, user-2\n")
    assert str(caught.value).endswith("starting\ndatabase is locked")


async def test_a_registry_that_refuses_ends_the_wait(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that does not let us look will not do so later: the error names the variable."""

    async def refuse(service: str | None = None) -> list[Listing]:
        raise RegistryRefused("permission denied")

    async with connect("memory://") as registry, Probes(registry, SETTINGS) as probes:
        monkeypatch.setattr(registry, "list", refuse)
        part, _ = await instances.grpc("user-1", Status.SERVING)
        with pytest.raises(LaunchError, match="REGISTRY_URL: permission denied"):
            await wait_ready([part], probes.serve, seconds=20)


async def test_what_is_not_http_is_no_answer() -> None:
    """A server that closes without an answer, or speaks something else, reads as no answer."""
    for text in (b"", b"garbage\r\n", b"HTTP/1.1 soon\r\n\r\n"):

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes = text) -> None:
            writer.write(text)
            writer.close()

        async with await asyncio.start_server(answer, LOOPBACK, 0) as server:
            address = f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
            assert await http_get(address, "/readyz") == (0, b"")
