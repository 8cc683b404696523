"""Watching a real server's health, and asking whether there is one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from typing import Any

import grpc.aio
import pytest
from grpc import ChannelConnectivity, StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from grpc_balancer import health
from grpc_balancer.endpoint import Line
from grpc_balancer.health import HealthWatch, probe
from grpc_balancer.options import with_defaults
from tests.integration.client.echo import EchoServer
from tests.integration.client.proxy import Proxy
from tests.servers.ports import free_port

Status = health_pb2.HealthCheckResponse.ServingStatus
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
READY, FAILED, CONNECTING = (
    ChannelConnectivity.READY,
    ChannelConnectivity.TRANSIENT_FAILURE,
    ChannelConnectivity.CONNECTING,
)


class Watches(health_aio.HealthServicer):
    """The reference servicer, which notes what it is asked and left, or answers by `script` instead."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.times: list[float] = []
        self.news = asyncio.Condition()
        self.left = asyncio.Event()
        self.script: Callable[[Any], Any] | None = None

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        self.asked.append(request.service)
        self.times.append(asyncio.get_running_loop().time())
        async with self.news:
            self.news.notify_all()
        try:
            if self.script is not None:
                await self.script(context)
            else:
                await super().Watch(request, context)
        finally:
            self.left.set()

    async def pauses(self, number: int) -> list[float]:
        """The first so many pauses between two questions, once they are over. Fails after 30 s."""
        async with asyncio.timeout(30), self.news:
            await self.news.wait_for(lambda: len(self.times) > number)
        return [later - earlier for earlier, later in pairwise(self.times[: number + 1])]


class HealthServer:
    """A server that has a health service and nothing else."""

    def __init__(self, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.port = free_port()  # which no client is given while the server is down
        self.health = Watches()
        self._options = [*options, ("grpc.so_reuseport", 0)]
        self._server: grpc.aio.Server | None = None

    async def start(self) -> HealthServer:
        self._server = grpc.aio.server(options=self._options)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


class Watching:
    """A channel to a port, a watch, and what it said."""

    def __init__(self, port: int, service: str) -> None:
        self.channel = channel_to(port)
        self.said: list[tuple[ChannelConnectivity, str]] = []
        self._news = asyncio.Event()
        self.watch = HealthWatch(self.channel, service, self._changed, random.Random(1))

    def _changed(self) -> None:
        self.said.append(self.watch.verdict)
        self._news.set()

    async def until(self, state: ChannelConnectivity) -> str:
        """The reason that comes with this state, when it is said. Fails after 30 s."""
        async with asyncio.timeout(30):
            while self.watch.verdict[0] is not state:
                self._news.clear()
                await self._news.wait()
        return self.watch.verdict[1]


def channel_to(port: int, *options: tuple[str, Any]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"dns:///127.0.0.1:{port}", with_defaults(options))


@contextlib.asynccontextmanager
async def watching(port: int, service: str = "shop") -> AsyncIterator[Watching]:
    """A watch that has been told of its connection."""
    made = Watching(port, service)
    made.watch.connection_changed(True)
    try:
        yield made
    finally:
        made.watch.stop()
        await made.watch.stopped()
        await made.channel.close()


@pytest.fixture
async def server() -> AsyncIterator[HealthServer]:
    made = await HealthServer().start()
    yield made
    await made.stop()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of 50 ms instead of a second."""
    monkeypatch.setattr(health, "_FIRST_PAUSE", 0.05)


async def test_the_verdict_follows_the_server(server: HealthServer) -> None:
    """SERVING, NOT_SERVING and SERVING again are heard, in that order, over one stream."""
    await server.health.set("shop", SERVING)
    async with watching(server.port) as made:
        assert made.watch.verdict[0] is CONNECTING
        await made.until(READY)
        await server.health.set("shop", NOT_SERVING)
        assert await made.until(FAILED) == "the server says NOT_SERVING"
        assert repr(made.watch) == "<HealthWatch 'shop': transient_failure, the server says NOT_SERVING>"
        await server.health.set("shop", SERVING)
        await made.until(READY)
        assert [state for state, _ in made.said] == [READY, FAILED, READY]
        assert server.health.asked == ["shop"]


async def test_a_service_that_the_server_does_not_know_is_not_healthy(server: HealthServer) -> None:
    """SERVICE_UNKNOWN is a reason not to be picked, until the server knows it."""
    async with watching(server.port, "other") as made:
        assert await made.until(FAILED) == "the server says SERVICE_UNKNOWN"
        await server.health.set("other", SERVING)
        await made.until(READY)


async def test_the_empty_name_asks_for_the_server_as_a_whole(server: HealthServer) -> None:
    """The empty service name is a name like others."""
    async with watching(server.port, "") as made:
        await made.until(READY)
        assert server.health.asked == [""]


@pytest.mark.usefixtures("_impatient")
async def test_a_connection_lost_and_found_is_watched_again(server: HealthServer) -> None:
    """When the connection breaks the server is not used at once, and used again when there is another, untold."""
    proxy = await Proxy(server.port).start()
    async with watching(proxy.port, "") as made:
        await made.until(READY)
        await asyncio.sleep(0.1)  # longer than a first pause
        proxy.cut()
        await made.until(CONNECTING)
        await made.until(READY)
    await proxy.stop()


@pytest.mark.usefixtures("_impatient")
async def test_a_connection_that_grew_old_says_nothing_against_its_server() -> None:
    """The stream goes with the old connection when a new one is there: calls wait for the answer over that one."""
    # Seconds: that a connection has ended before this process got round to answering does speak against a server.
    age = [("grpc.max_connection_age_ms", 3_000), ("grpc.max_connection_age_grace_ms", 1_000)]
    server = await HealthServer(age).start()
    async with watching(server.port, "") as made:
        await made.until(READY)
        await made.until(CONNECTING)
        await made.until(READY)
        assert FAILED not in [state for state, _ in made.said]
    await server.stop()


@pytest.mark.usefixtures("_impatient")
async def test_a_server_that_is_restarted_is_watched_again(server: HealthServer) -> None:
    """A server that stops, and comes back half a second later, is healthy again without being told of it."""
    async with watching(server.port, "") as made:
        await made.until(READY)
        await asyncio.sleep(0.1)  # longer than a first pause
        await server.stop()
        await made.until(CONNECTING)
        await asyncio.sleep(0.5)
        assert made.watch.verdict[0] is CONNECTING
        await server.start()
        await made.until(READY)


async def test_without_a_connection_nobody_is_asked(server: HealthServer) -> None:
    """Told that the connection is gone, the watch ends its stream and knows nothing; with a new one it asks anew."""
    async with watching(server.port, "") as made:
        await made.until(READY)
        made.watch.connection_changed(False)
        assert made.watch.verdict[0] is CONNECTING
        await made.watch.stopped()
        async with asyncio.timeout(30):
            await server.health.left.wait()  # the stream does not hold up a server that stops
        made.watch.connection_changed(True)
        made.watch.connection_changed(True)
        await made.until(READY)
        assert server.health.asked == ["", ""]
        assert [state for state, _ in made.said] == [READY, READY]


@pytest.mark.usefixtures("_impatient")
async def test_without_a_health_service_a_server_is_healthy(caplog: pytest.LogCaptureFixture) -> None:
    """UNIMPLEMENTED means healthy, is said once in the log, and is found out anew for each connection."""
    server = await EchoServer().start()
    with caplog.at_level(logging.WARNING, "grpc_balancer.health"):
        async with watching(server.port) as made:
            for _ in range(2):
                await made.until(READY)
                await made.watch.stopped()
                made.watch.connection_changed(False)
                made.watch.connection_changed(True)
            await made.until(READY)
    await server.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "a server cannot be asked for 'shop': no grpc.health.v1; so it counts as healthy"
    ]


async def test_a_stream_that_ends_is_opened_again(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers and ends the stream with OK is not healthy until it answers again."""
    monkeypatch.setattr(health, "_FIRST_PAUSE", 4.0)  # a stream that has lasted longer than that had a reason to end
    again = asyncio.Event()

    async def end(context: Any) -> None:
        await context.write(health_pb2.HealthCheckResponse(status=SERVING))
        await again.wait()

    server.health.script = end
    async with watching(server.port) as made:
        await made.until(READY)
        again.set()
        assert await made.until(FAILED) == "the health check ended"
        again.clear()
        await made.until(READY)


async def test_a_server_that_fails_is_not_asked_all_the_time(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts that fail are further and further apart; if each of them got an answer first, as far as at first."""
    monkeypatch.setattr(health, "_FIRST_PAUSE", 0.1)

    async def refuse(context: Any) -> None:
        await context.abort(StatusCode.INTERNAL, "not today")

    async def answer_and_refuse(context: Any) -> None:
        await context.write(health_pb2.HealthCheckResponse(status=SERVING))
        await refuse(context)

    server.health.script = refuse
    async with watching(server.port) as made:
        assert await made.until(FAILED) == "the health check failed: INTERNAL: not today"
        pauses = await server.health.pauses(4)  # 0.1 s, 0.16 s, 0.26 s, 0.41 s … each within a fifth
        assert all(pause > 0.079 * 1.6**number for number, pause in enumerate(pauses))
        assert len(made.said) == 1
    server.health.times.clear()
    server.health.script = answer_and_refuse
    async with watching(server.port):
        pauses = await server.health.pauses(8)
        assert min(pauses) > 0.079
        assert min(pauses[4:]) < 0.4  # gRFC A17: a message resets the pause, which would be 0.52 s by then at least


async def test_what_is_no_health_message_is_not_healthy(server: HealthServer) -> None:
    """Bytes that are no HealthCheckResponse do not stop the watch, and are no health."""

    class Garbage(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_stream_rpc_method_handler(self.answer)

        async def answer(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield b"\x0a\xff"
            yield b"\x08\x01"

    other = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    other.add_generic_rpc_handlers([Garbage()])
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    async with watching(port) as made:
        await made.until(READY)
        assert made.said == [(FAILED, "the server says something unreadable"), (READY, "")]
    await other.stop(None)


# One question


async def test_any_answer_to_a_probe_will_do(server: HealthServer) -> None:
    """A server that is healthy answers, and so does one without a health service."""
    echo = await EchoServer().start()
    for port in (server.port, echo.port):
        channel = channel_to(port)
        assert await probe(Line(channel), 30.0)
        await channel.close()
    await echo.stop()


async def test_no_answer_to_a_probe_is_none(server: HealthServer) -> None:
    """A peer that went silent, one that hangs up, a port that refuses and a channel that is closed do not answer."""
    proxy = Proxy(server.port)
    proxy.port = free_port()  # which nobody else is given once it refuses
    await proxy.start()
    channel = channel_to(proxy.port)
    line = Line(channel)
    assert await probe(line, 30.0)
    proxy.freeze()
    assert not await probe(line, 0.1)
    assert line.ready
    proxy.thaw()
    assert await probe(line, 30.0)
    for end in (proxy.cut, channel.close):
        proxy.freeze()
        asked = asyncio.create_task(probe(line, 5.0))
        await asyncio.sleep(0.1)
        if (closing := end()) is not None:
            await closing
        assert not await asked
        proxy.thaw()
    await proxy.stop()
    channel = channel_to(proxy.port)
    assert not await probe(Line(channel), 5.0)
    await channel.close()
