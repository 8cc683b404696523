"""A server's life, with a real gRPC server and a registry in memory."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from fuzzing.frames import http2
from grpc_registry import Instance, Lifecycle, Phase, ServerEnded, State, serving
from grpc_registry.lifecycle import _LATE_PART, _LOOK_SECONDS
from grpc_registry.memory import MemoryRegistry, MemorySpace
from tests.watching import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

AMPLE = 4.0
"""A delay within which a test does something, also on a machine that stands still meanwhile."""

NO_METHOD = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/\xff\xfe"),
    (b":authority", b"a"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


@dataclass
class Scene:
    """A bound server with one method that waits to be let go, its health, and a registry."""

    server: grpc.aio.Server
    instance: Instance
    health: health_aio.HealthServicer
    space: MemorySpace
    registry: MemoryRegistry
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def serving(self, **options: Any) -> Any:
        defaults: dict[str, Any] = {"health": self.health, "propagation_delay": 0.05, "grace": 5.0, "signals": ()}
        return serving(self.server, self.registry, self.instance, **(defaults | options))

    def call(self) -> Awaitable[bytes]:
        async def run() -> bytes:
            async with grpc.aio.insecure_channel(self.instance.address) as channel:
                wait: Any = channel.unary_unary("/test/Wait")
                return cast("bytes", await wait(b""))

        return asyncio.create_task(run())

    async def check(self) -> Any:
        async with grpc.aio.insecure_channel(self.instance.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return (await stub.Check(health_pb2.HealthCheckRequest())).status

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[tuple[Any, grpc.aio.Channel]]:
        """A client's watch of the server's health, which has read SERVING, and the channel that it is on."""
        async with grpc.aio.insecure_channel(self.instance.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            yield watch, channel
            watch.cancel()

    def listed(self) -> list[State]:
        return [entry.instance.state for entry in self.space.entries.values()]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    space = MemorySpace()
    health = health_aio.HealthServicer()
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    async with MemoryRegistry(space) as registry:
        made = Scene(server, Instance("product", f"127.0.0.1:{port}", id="a"), health, space, registry)

        async def wait(request: bytes, context: object) -> bytes:
            made.entered.set()
            await made.let_go.wait()
            return b"done"

        handler = grpc.method_handlers_generic_handler("test", {"Wait": grpc.unary_unary_rpc_method_handler(wait)})
        server.add_generic_rpc_handlers((handler,))
        yield made
        await server.stop(None)


async def test_it_serves_before_it_is_registered(scene: Scene) -> None:
    """When the instance can be seen, the server answers and is healthy; after the block it is gone and stopped."""
    phases = []
    async with aclosing(scene.registry.watch("product")) as watch, scene.serving() as lifecycle:
        await until(watch, lambda snapshot: len(snapshot.instances) == 1)
        assert await scene.check() == SERVING
        phases.append(lifecycle.phase)
    assert [*phases, lifecycle.phase] == [Phase.SERVING, Phase.STOPPED]
    assert scene.listed() == []
    with pytest.raises(grpc.aio.AioRpcError):
        await scene.check()


async def test_a_drain_loses_no_call(scene: Scene) -> None:
    """Clients are told first, after the delay health changes and the instance leaves, and a running call ends well."""
    async with scene.serving(propagation_delay=AMPLE) as lifecycle:
        call = scene.call()
        await scene.entered.wait()
        draining = asyncio.create_task(lifecycle.drain())
        async with aclosing(scene.registry.watch("product")) as watch:
            await until(watch, lambda snapshot: [one.state for one in snapshot.instances] == [State.DRAINING])
            assert await scene.check() == SERVING, "during the delay late clients are still welcome"
            await until(watch, lambda snapshot: snapshot.instances == ())
        assert lifecycle.phase is Phase.DRAINING, "the call is waited for"
        scene.let_go.set()
        assert await call == b"done"
        await draining


async def test_health_says_not_serving_before_the_server_stops(scene: Scene) -> None:
    """A client that watches health hears of the end while its connection still stands."""
    async with scene.serving() as lifecycle, scene.watching() as (watch, _):
        lifecycle.begin_drain()
        assert (await watch.read()).status == NOT_SERVING


async def test_a_drain_goes_on_without_the_registry(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A registry that is away delays nothing but what is bounded, and the server stops in order."""
    async with scene.serving() as lifecycle:
        scene.space.go_away("maintenance")
        async with asyncio.timeout(30):
            await lifecycle.drain()
    assert any("draining goes on without the registry: maintenance" in message for message in caplog.messages)


async def test_without_the_registry_clients_are_told_by_health_and_given_time(scene: Scene) -> None:
    """NOT_SERVING is then the first that they can know, so what was on its way when it came is served."""
    scene.let_go.set()
    async with scene.serving(propagation_delay=AMPLE) as lifecycle:
        async with scene.watching() as (watch, _):
            scene.space.go_away("maintenance")
            lifecycle.begin_drain()
            assert (await watch.read()).status == NOT_SERVING
            assert await scene.call() == b"done"
        await lifecycle.wait()


async def test_who_hears_of_a_drain_by_health_alone_loses_no_call(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that the registry does not reach calls until it reads NOT_SERVING, and what it has sent is served."""
    served, sleep, waited = asyncio.Event(), asyncio.sleep, list[float]()

    async def until_served(seconds: float) -> None:
        if seconds == pytest.approx(0.5 * _LATE_PART):  # after NOT_SERVING: as long as this machine needs for the calls
            waited.append(seconds)
            async with asyncio.timeout(30):
                await served.wait()
        else:
            await sleep(seconds)

    monkeypatch.setattr("grpc_registry.lifecycle.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": until_served}))
    scene.let_go.set()
    async with scene.serving(propagation_delay=0.5) as lifecycle:
        async with scene.watching() as (watch, channel):
            lifecycle.begin_drain()
            assert (await watch.read()).status == NOT_SERVING
            wait: Any = channel.unary_unary("/test/Wait")
            calls = [wait(b"") for _ in range(20)]
            assert await asyncio.gather(*calls) == [b"done"] * 20
            served.set()
        await lifecycle.wait()
        assert waited


@pytest.mark.parametrize("told", [True, False])
async def test_after_not_serving_a_tenth_of_the_delay_passes_or_all_of_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Between NOT_SERVING and the leave: a tenth where the registry was told, and the whole where it could not be."""
    waits: list[tuple[float, Any, list[State]]] = []
    sleep = asyncio.sleep

    async def pass_at_once(seconds: float) -> None:
        if seconds == _LOOK_SECONDS:  # at the server, which is no part of the drain
            await sleep(seconds)
        else:
            waits.append((seconds, await scene.check(), scene.listed()))

    monkeypatch.setattr("grpc_registry.lifecycle.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": pass_at_once}))
    async with scene.serving(propagation_delay=60) as lifecycle:
        await lifecycle.registrations[0].wait_registered()
        if not told:
            scene.space.go_away()
        async with asyncio.timeout(30):
            await lifecycle.drain()
    if told:
        assert waits == [(60, SERVING, [State.DRAINING]), (6, NOT_SERVING, [State.DRAINING])]
    else:
        assert waits == [(60, NOT_SERVING, [State.SERVING])]


async def test_a_server_starts_without_the_registry(scene: Scene) -> None:
    """The server serves at once, and is registered when that can be."""
    scene.space.go_away()
    async with scene.serving() as lifecycle:
        assert await scene.check() == SERVING
        assert not lifecycle.registrations[0].registered
        scene.space.come_back()
        await asyncio.wait_for(lifecycle.registrations[0].wait_registered(), 30)


async def test_an_operators_drain_stops_nothing(scene: Scene) -> None:
    """Taken out of rotation from outside, the server stays healthy and serves, and can be put back."""
    async with scene.serving() as lifecycle:
        await scene.registry.edit("product", "a", state=State.DRAINING)
        assert lifecycle.registrations[0].instance.state is State.DRAINING
        assert lifecycle.phase is Phase.SERVING
        assert await scene.check() == SERVING
        await scene.registry.edit("product", "a", state=State.SERVING)
        assert scene.listed() == [State.SERVING]


async def test_running_calls_are_given_no_more_than_the_grace(scene: Scene) -> None:
    """A call that does not end is cancelled when the grace is over."""
    async with scene.serving(grace=0.1) as lifecycle:
        call = scene.call()
        await scene.entered.wait()
        async with asyncio.timeout(30):
            await lifecycle.drain()
        with pytest.raises(grpc.aio.AioRpcError):
            await call


@pytest.mark.parametrize("after", [Lifecycle.begin_drain, Lifecycle.stop_now])
async def test_stop_now_waits_for_nothing(scene: Scene, after: Callable[[Lifecycle], None]) -> None:
    """Whether a drain has begun or not, stopping at once ends running calls at once."""
    async with scene.serving(propagation_delay=60, grace=60) as lifecycle:
        call = scene.call()
        await scene.entered.wait()
        after(lifecycle)
        lifecycle.stop_now()
        async with asyncio.timeout(30):
            await lifecycle.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert scene.listed() == []


async def test_a_server_that_ends_by_itself_leaves_the_registry(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """One call of a method whose name is no UTF-8 ends the loop in which a grpc.aio server (1.85.1) takes calls."""
    async with scene.serving(grace=0.1) as lifecycle:
        _, writer = await asyncio.open_connection(*scene.instance.address.split(":"))
        writer.write(http2.PREFACE + http2.settings())
        writer.write(http2.frame(http2.Kind.HEADERS, http2.END_STREAM | http2.END_HEADERS, 1, http2.block(NO_METHOD)))
        async with asyncio.timeout(30):
            with pytest.raises(ServerEnded, match="ended by itself"):
                await lifecycle.wait()
        assert scene.listed() == []
        writer.close()
        await writer.wait_closed()
    assert "the server takes no calls any more: leaving the registry" in caplog.messages
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("grpc_registry")]


async def test_a_server_that_is_stopped_past_its_lifecycle_leaves_the_registry_and_keeps_its_calls(
    scene: Scene,
) -> None:
    """Whoever stopped it may still be waiting for calls, for longer than the lifecycle would."""
    async with scene.serving(grace=0.1) as lifecycle:
        call = scene.call()
        await scene.entered.wait()
        stopping = asyncio.create_task(scene.server.stop(60))
        async with asyncio.timeout(30):
            with pytest.raises(ServerEnded):
                await lifecycle.wait()
        assert scene.listed() == []
        scene.let_go.set()
        assert await call == b"done"
        await stopping


async def test_a_first_signal_is_the_first_also_where_the_server_was_stopped_past_its_lifecycle(scene: Scene) -> None:
    """It ends no call, and the second does."""
    number = signal.SIGTERM
    async with scene.serving(propagation_delay=60, signals=(number,)) as lifecycle:
        call = scene.call()
        await scene.entered.wait()
        stopping = asyncio.create_task(scene.server.stop(60))
        async with aclosing(scene.registry.watch("product")) as watch:
            await until(watch, lambda snapshot: [one.state for one in snapshot.instances] == [State.DRAINING])
        os.kill(os.getpid(), number)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.shield(stopping)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(30):
            with pytest.raises(ServerEnded):
                await lifecycle.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await stopping


async def test_an_error_in_the_block_drains_too(scene: Scene) -> None:
    """The error comes out of the block after the instance left and the server stopped."""
    with pytest.raises(KeyError, match="bug"):
        async with scene.serving():
            raise KeyError("bug")
    assert scene.listed() == []


async def test_cancelling_the_block_leaves_nothing_running(scene: Scene) -> None:
    """A task that is cancelled while it drains stops the server on its way out."""

    async def run() -> None:
        async with scene.serving(propagation_delay=60):
            pass

    task = asyncio.create_task(run())
    async with aclosing(scene.registry.watch("product")) as watch:
        await until(watch, lambda snapshot: [one.state for one in snapshot.instances] == [State.DRAINING])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("grpc_registry")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_a_second_one_stops(scene: Scene, number: signal.Signals) -> None:
    """The first signal begins a drain, the second ends it; afterwards signals mean what they did before."""
    before = signal.getsignal(number)
    async with scene.serving(propagation_delay=60, signals=(number,)) as lifecycle:
        async with aclosing(scene.registry.watch("product")) as watch:
            await until(watch, lambda snapshot: len(snapshot.instances) == 1)
            os.kill(os.getpid(), number)
            await until(watch, lambda snapshot: [one.state for one in snapshot.instances] == [State.DRAINING])
        assert lifecycle.phase is Phase.DRAINING
        os.kill(os.getpid(), number)
        async with asyncio.timeout(30):
            await lifecycle.wait()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"propagation_delay": -1}, ValueError, "propagation_delay -1: a number of seconds, 0 or more"),
        ({"propagation_delay": "1"}, TypeError, "propagation_delay '1'"),
        ({"grace": float("nan")}, ValueError, "grace nan"),
        ({"grace": None}, TypeError, "grace None"),
    ],
)
async def test_a_time_that_is_none_is_refused(
    scene: Scene, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """It is named before the server is started."""
    with pytest.raises(error, match=message):
        await scene.serving(**options).__aenter__()
    assert scene.listed() == []


async def test_what_cannot_be_served_is_refused(scene: Scene) -> None:
    """A blocking server, no instance, and what is no instance, get an error that says what is needed."""
    blocking: Any = grpc.server(ThreadPoolExecutor(1))
    wrong: Any = "product"
    with pytest.raises(TypeError, match=r"server <grpc._server._Server .*>: a grpc.aio server;"):
        await serving(blocking, scene.registry, scene.instance).__aenter__()
    with pytest.raises(ValueError, match="at least one Instance"):
        await serving(scene.server, scene.registry).__aenter__()
    with pytest.raises(TypeError, match="'product': an Instance, such as"):
        await serving(scene.server, scene.registry, wrong).__aenter__()
    with pytest.raises(TypeError, match="'product': an Instance, such as"):
        scene.registry.register(wrong)
