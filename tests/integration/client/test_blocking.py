"""Blocking channels over real servers and a real etcd, and the thread that they share."""

from __future__ import annotations

import asyncio
import gc
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

import grpc_registry
from grpc_balancer import sync
from grpc_balancer.sync import loop
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot, State
from tests.integration.client.blocking import (
    SECONDS,
    BlockingEcho,
    LoopElsewhere,
    ServerElsewhere,
    resolving,
    server_elsewhere,
)
from tests.integration.client.echo import UNARY_UNARY, snapshot
from tests.servers import Etcd


@pytest.fixture
def server() -> Iterator[ServerElsewhere]:
    with server_elsewhere() as started:
        yield started


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("grpc_balancer")]


# The registry


def test_a_registry_by_its_url(shared_etcd: Etcd) -> None:
    """Calls are balanced over what etcd lists, and follow its changes."""
    url = f"{shared_etcd.url}/{secrets.token_hex(4)}"
    elsewhere = LoopElsewhere()

    async def register(*servers: ServerElsewhere) -> list[Any]:
        registrations = [registry.register(server.inside.instance()) for server in servers]
        for registration in registrations:
            await registration.wait_registered()
        return registrations

    with ExitStack() as stack:
        stack.callback(elsewhere.end)
        one, two = (stack.enter_context(server_elsewhere(name)) for name in ("one", "two"))
        registry = grpc_registry.connect(url)
        elsewhere.run(registry.__aenter__())
        stack.callback(lambda: elsewhere.run(registry.close()))
        first, second = elsewhere.run(register(one, two))
        channel = stack.enter_context(sync.Channel("echo", url, policy="round_robin"))
        name = BlockingEcho(channel).unary_unary

        def seen() -> Counter[bytes]:
            return Counter(name(b"name", timeout=SECONDS) for _ in range(20))

        _until(lambda: seen() == {b"one": 10, b"two": 10})
        elsewhere.run(second.update(state=State.DRAINING))
        _until(lambda: seen() == {b"one": 20})
        elsewhere.run(second.close())
        assert seen() == {b"one": 20}
        elsewhere.run(first.update(state=State.DRAINING))
        _until(lambda: "no instance is serving" in _details(name))


def test_channels_of_one_url_share_a_connection(shared_etcd: Etcd) -> None:
    """A process that calls five services has one connection to etcd."""
    url = f"{shared_etcd.url}/{secrets.token_hex(4)}"
    with sync.Channel("one", url), sync.Channel("two", url):
        assert _registries() == {url: 2}
        with sync.Channel("three", url):
            assert _registries() == {url: 3}
        assert _registries() == {url: 2}


def _registries() -> dict[str, int]:
    assert loop._current is not None
    return {url: users for url, (_, users) in loop._current.registries._open.items()}


def _details(method: Any) -> str:
    try:
        method(b"x", timeout=SECONDS)
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def _until(condition: Any) -> None:
    late = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.02)


# The thread


def test_the_thread_lives_as_long_as_channels(server: ServerElsewhere) -> None:
    """It starts with the first use of a channel, is one for all, and has ended when the last channel is closed."""
    one, two = sync.Channel("echo", resolving(server)), sync.Channel("echo", resolving(server))
    assert _threads() == []
    for channel in (one, two):
        assert BlockingEcho(channel).unary_unary(b"x", timeout=SECONDS) == b"x"
    assert _threads() == ["grpc_balancer loop"]
    one.close()
    assert _threads() == ["grpc_balancer loop"]
    two.close()
    assert _threads() == []


def test_channels_come_and_go(server: ServerElsewhere) -> None:
    """Threads that open, use and close channels at the same time do not get in each other's way."""

    def use(number: int) -> bytes:
        with sync.Channel("echo", resolving(server)) as channel:
            return BlockingEcho(channel).unary_unary(str(number).encode(), timeout=SECONDS)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(60))) == [str(number).encode() for number in range(60)]
    assert _threads() == []


def test_an_abandoned_channel_is_closed(server: ServerElsewhere) -> None:
    """A channel that nobody holds, nor a stub of it, is closed; a stub alone keeps it."""
    channel = sync.Channel("echo", resolving(server))
    method = channel.unary_unary(UNARY_UNARY)
    del channel
    gc.collect()
    assert method(b"x", timeout=SECONDS) == b"x"
    del method
    gc.collect()
    _until(lambda: _threads() == [])


def test_a_call_alone_keeps_its_channel(server: ServerElsewhere) -> None:
    """Who holds nothing but a call, neither stub nor channel, gets all of its responses, as from grpc."""

    def begin() -> tuple[Any, Any]:
        echo = BlockingEcho(sync.Channel("echo", resolving(server)))
        return echo.unary_stream(b"repeat 40", timeout=SECONDS), echo.unary_unary.future(b"sleep 0.3", timeout=SECONDS)

    stream, future = begin()
    gc.collect()
    assert future.result() == b"sleep 0.3"
    assert list(stream) == [b"repeat 40"] * 40
    del stream, future
    gc.collect()
    _until(lambda: _threads() == [])


def test_calls_may_be_looked_at_after_closing(server: ServerElsewhere) -> None:
    """In any thread, also one that has got the identifier of the loop's, which the system gives out anew."""
    with sync.Channel("echo", resolving(server)) as channel:
        future = BlockingEcho(channel).unary_unary.future(b"x", timeout=SECONDS)
        loops = channel._session.open().thread._thread.ident
        assert future.result() == b"x"
    seen: list[Any] = []
    for _ in range(100):
        thread = threading.Thread(target=lambda: seen.append(future.result()))
        thread.start()
        thread.join()
        if thread.ident == loops:
            break
    assert set(seen) == {b"x"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_loop_that_has_died(server: ServerElsewhere) -> None:
    """A `SystemExit` in the loop, from what users have called there, ends the calls in progress and refuses others."""

    def exit_loop() -> None:
        raise SystemExit(3)

    channel = sync.Channel("echo", resolving(server))
    echo = BlockingEcho(channel)
    future = echo.unary_unary.future(b"sleep 60")
    channel._session.open().thread.post(exit_loop)
    failure = future.exception(SECONDS)
    assert isinstance(failure, sync.CallError)
    assert failure.code() is StatusCode.CANCELLED
    with pytest.raises(sync.CallError, match="Channel closed!"):
        echo.unary_unary(b"x")
    channel.close()
    with sync.Channel("echo", resolving(server)) as another:
        assert BlockingEcho(another).unary_unary(b"x", timeout=SECONDS) == b"x"


def test_an_interrupt_before_the_wait_has_begun(server: ServerElsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the loop has the call, and the caller does not wait yet, ends it at the server as well."""
    post = loop.LoopThread.post

    def interrupted(thread: loop.LoopThread, work: Any, *arguments: Any, **named: Any) -> bool:
        posted = post(thread, work, *arguments, **named)
        if getattr(work, "__name__", "") == "start":
            server.until(lambda server: server.running == 1)
            raise KeyboardInterrupt
        return posted

    with sync.Channel("echo", resolving(server)) as channel:
        echo = BlockingEcho(channel)
        calls: list[Any] = [
            lambda: echo.unary_unary(b"sleep 60"),
            lambda: echo.unary_unary.with_call(b"sleep 60"),
            lambda: echo.unary_unary.future(b"sleep 60"),
            lambda: next(echo.unary_stream(b"sleep 60")),
            lambda: echo.stream_unary(iter([b"sleep 60"])),
        ]
        for call in calls:
            with monkeypatch.context() as patched:
                patched.setattr(loop.LoopThread, "post", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    call()
            server.until(lambda server: server.running == 0)


def test_requests_that_want_to_exit(server: ServerElsewhere) -> None:
    """An iterator of requests that raises what is no `Exception` fails the call, instead of leaving it to wait."""

    def requests() -> Iterator[bytes]:
        yield b"a"
        raise SystemExit(3)

    with sync.Channel("echo", resolving(server)) as channel:
        failure = BlockingEcho(channel).stream_unary.future(requests()).exception(SECONDS)
    assert isinstance(failure, sync.CallError)
    assert (failure.code(), failure.details()) == (StatusCode.UNKNOWN, "Exception iterating requests! SystemExit(3)")


def test_closing_while_others_call(server: ServerElsewhere) -> None:
    """However a call meets the end of its channel, it ends."""
    codes: set[StatusCode] = set()
    for _ in range(10):
        channel = sync.Channel("echo", resolving(server))
        method = channel.unary_unary(UNARY_UNARY)
        method(b"x", timeout=SECONDS)

        def call(method: Any = method) -> Any:
            while True:
                try:
                    method(b"x")
                except ValueError as error:
                    return str(error)
                except grpc.RpcError as error:
                    codes.add(error.code())

        with ThreadPoolExecutor(4) as pool:
            ending = [pool.submit(call) for _ in range(4)]
            time.sleep(0.02)
            channel.close()
            assert {each.result(SECONDS) for each in ending} == {"Cannot invoke RPC on closed channel!"}
    assert codes <= {StatusCode.CANCELLED}


def test_closing_with_grace(server: ServerElsewhere) -> None:
    """Calls in progress may finish within the grace, and closing takes no longer than they do."""
    channel = sync.Channel("echo", resolving(server))
    future = BlockingEcho(channel).unary_unary.future(b"wait")
    server.until(lambda server: server.running == 1)
    opener = threading.Timer(0.3, server.open_gate)
    opener.start()
    started = time.monotonic()
    channel.close(grace=SECONDS)
    assert future.result() == b"wait"
    assert time.monotonic() - started < SECONDS / 2
    opener.join(SECONDS)
    with pytest.raises(ValueError, match="non-negative"):
        channel.close(grace=-1)


def test_a_deadline_holds_though_the_loop_is_stuck(server: ServerElsewhere) -> None:
    """A call ends soon after its deadline even if something blocks the loop."""
    with sync.Channel("echo", resolving(server)) as channel:
        echo = BlockingEcho(channel)
        assert echo.unary_unary(b"x", timeout=SECONDS) == b"x"
        stuck = threading.Event()
        assert loop._current is not None
        loop._current.post(stuck.wait, SECONDS)
        try:
            started = time.monotonic()
            waits: list[Any] = [
                lambda: echo.unary_unary(b"x", timeout=0.1),
                lambda: next(echo.unary_stream(b"x", timeout=0.1)),
                lambda: echo.unary_unary.future(b"x", timeout=0.1).result(),
            ]
            for wait in waits:
                with pytest.raises(grpc.RpcError) as caught:
                    wait()
                assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
            assert time.monotonic() - started < 10
        finally:
            stuck.set()


def test_the_loop_does_not_wait_for_itself(server: ServerElsewhere) -> None:
    """A blocking call in the loop's own thread is refused, where it would hang."""
    with sync.Channel("echo", resolving(server)) as channel:
        method = BlockingEcho(channel).unary_unary
        with pytest.raises(RuntimeError, match="would wait for itself"):
            sync.in_loop(method, b"x")
        with pytest.raises(RuntimeError, match="would wait for itself"):
            sync.in_loop(channel.close)
        assert method(b"x", timeout=SECONDS) == b"x"


def test_in_loop(server: ServerElsewhere) -> None:
    """What is not thread-safe is used in the channels' thread, for example to say what a test resolves."""
    resolver = ManualResolver()
    with pytest.raises(RuntimeError, match=r"no grpc_balancer\.sync channel"):
        sync.in_loop(gc.collect)
    with sync.Channel("echo", lambda: resolver) as channel:
        future = BlockingEcho(channel).unary_unary.future(b"x", timeout=SECONDS)
        sync.in_loop(resolver.push, snapshot(1, server.inside.instance()))
        assert future.result() == b"x"
        with pytest.raises(ZeroDivisionError):
            sync.in_loop(divmod, 1, 0)


# What the core does, seen from here


def test_a_call_that_finds_nothing_says_why() -> None:
    """The reasons of the asynchronous channel arrive."""
    resolver = ManualResolver()
    resolver.push(snapshot(1))
    with sync.Channel("echo", lambda: resolver) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            BlockingEcho(channel).unary_unary(b"x", timeout=SECONDS)
        assert caught.value.code() is StatusCode.UNAVAILABLE
        assert "no instance is registered" in str(caught.value.details())
        with pytest.raises(grpc.RpcError) as caught:
            BlockingEcho(channel).unary_unary(b"x", timeout=0.2, wait_for_ready=True)
        assert "no instance is registered" in str(caught.value.details())
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


def test_explain(server: ServerElsewhere) -> None:
    """The channel explains its picks, to whichever thread asks."""
    with sync.Channel("echo", resolving(server)) as channel:
        BlockingEcho(channel).unary_unary(b"x", timeout=SECONDS)
        assert server.inside.address in str(channel.explain(UNARY_UNARY, (("key", "value"),)))


def test_the_owner_of_a_key(server: ServerElsewhere) -> None:
    """The channel tells whose a key is, to whichever thread asks."""
    with sync.Channel("echo", resolving(server), policy={"ring_hash": {"requestHashHeader": "key"}}) as channel:
        BlockingEcho(channel).unary_unary(b"x", timeout=SECONDS)
        owner = channel.owner([("key", "value")])
        assert owner is not None
        assert owner.address == server.inside.address


def test_retries(server: ServerElsewhere) -> None:
    """A service config is obeyed."""
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["ABORTED"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": retry}]}
    with sync.Channel("echo", resolving(server), service_config=config) as channel:
        with pytest.raises(grpc.RpcError):
            BlockingEcho(channel).unary_unary(b"fail ABORTED again", timeout=SECONDS)
        with pytest.raises(grpc.RpcError):
            BlockingEcho(channel).stream_unary(iter([b"fail ABORTED again"]), timeout=SECONDS)
    assert (server.inside.calls["unary_unary"], server.inside.calls["stream_unary"]) == (3, 3)


def test_an_instance_that_dies_costs_nothing(server: ServerElsewhere) -> None:
    """Blocking calls move to another instance as all calls do."""
    with server_elsewhere("other") as other, sync.Channel("echo", resolving(server, other)) as channel:
        method = BlockingEcho(channel).unary_unary
        _until(lambda: {method(b"name", timeout=SECONDS) for _ in range(10)} == {b"echo", b"other"})
        other.stop()
        _until(lambda: len(channel.explain().candidates) == 1)  # a call that may have been seen is not repeated
        assert {method(b"name", timeout=SECONDS) for _ in range(50)} == {b"echo"}


def test_a_generated_stub() -> None:
    """Stubs as protoc makes them need no change."""
    servicer: Any = HealthServicer()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        instance = Instance("health", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        resolver = ManualResolver()
        resolver.push(Snapshot("health", 1, (instance,)))
        with sync.Channel("health", lambda: resolver) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            assert stub.Check(request, timeout=SECONDS).status == health_pb2.HealthCheckResponse.SERVING
            watching = stub.Watch(request, timeout=SECONDS)
            assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
            servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watching.cancel()
        server.stop(None).wait(SECONDS)


def test_asynchronous_interceptors_see_messages(server: ServerElsewhere) -> None:
    """Those that are given as an option get what the stub was given, not bytes."""
    seen: list[Any] = []

    class Note(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            await asyncio.sleep(0)
            seen.append(request)
            return await continuation(client_call_details, request)

    with sync.Channel("echo", resolving(server), interceptors=[Note()]) as channel:
        method: Any = channel.unary_unary(UNARY_UNARY, str.encode, bytes.decode)
        assert method("text", timeout=SECONDS) == "text"
    assert seen == ["text"]


def test_nothing_is_left_of_calls(server: ServerElsewhere) -> None:
    """A thousand calls of all kinds, failed and cancelled ones too, leave no call behind, and no load."""
    with sync.Channel("echo", resolving(server)) as channel:
        echo = BlockingEcho(channel)
        for _ in range(100):
            echo.unary_unary(b"x")
            list(echo.stream_stream(iter([b"a", b"b"])))
            echo.unary_unary.future(b"sleep 1").cancel()
            next(echo.unary_stream(b"repeat 50"))
            with pytest.raises(grpc.RpcError):
                echo.stream_unary(iter([b"fail ABORTED x"]))
        tenancy = channel._session.open()
        gc.collect()
        _until(lambda: not tenancy.live)
        _until(lambda: not any("grpc_balancer requests" in name for name in _threads()))
        endpoints = tenancy.channel._dispatcher.balancer.endpoints
        _until(lambda: sum(endpoint.load.count for endpoint in endpoints) == 0)
