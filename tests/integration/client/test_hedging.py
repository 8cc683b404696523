"""Hedging as gRFC A6 has it, over real connections: who is asked at the same time, who wins, and what losers hear."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from statistics import median
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import Channel
from grpc_balancer.attempt import Attempt
from grpc_balancer.endpoint import Endpoint
from grpc_balancer.load import Outcome
from grpc_balancer.testing import ManualResolver
from grpc_registry.service_config import ServiceConfig
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoProcess, EchoServer, kill_and_let_grpc_know, snapshot
from tests.integration.client.scripted import Fail, ScriptedServer, attempts, eventually, is_idle, result

HANG = Fail(StatusCode.OK, after=30)


class Clock:
    """A channel's time, which a test moves. While it stands no hedge is due, however long this machine stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hedging(attempts: int = 3, delay: str = "0.1s", codes: tuple[str, ...] = ("UNAVAILABLE",)) -> dict[str, Any]:
    """A service config that hedges every method."""
    policy = {"maxAttempts": attempts, "hedgingDelay": delay, "nonFatalStatusCodes": list(codes)}
    return {"methodConfig": [{"name": [{}], "hedgingPolicy": policy}]}


@pytest.fixture
async def scripted() -> AsyncIterator[list[ScriptedServer]]:
    """Three servers, s0 to s2, that answer until they are told to fail."""
    started = [await ScriptedServer(f"s{number}").start() for number in range(3)]
    yield started
    for server in started:
        await server.stop()


async def connected(channel: Channel, resolver: ManualResolver, *servers: Any) -> Echo:
    """A stub of `channel`, which is connected to the servers, to the first of them the longest."""
    channel.get_state(try_to_connect=True)
    for number in range(1, len(servers) + 1):
        resolver.push(snapshot(number, *(server.instance() for server in servers[:number])))
        async with asyncio.timeout(30):
            await all_connected(channel, number)
    return Echo(channel)


def hedged(resolver: ManualResolver, *how: Any, clock: Callable[[], float] = time.monotonic, **named: Any) -> Channel:
    """A channel whose calls go to the server that it is connected to the longest, then to the next."""
    return Channel("echo", resolver, policy="pick_first", service_config=hedging(*how, **named), clock=clock)


class Reports:
    """What is reported of the attempts of a channel."""

    def __init__(self, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[tuple[str, Outcome, float | None]] = []
        inner = channel._dispatcher.finished

        def finished(endpoint: Endpoint, outcome: Outcome, elapsed: float | None, details: str = "") -> None:
            self.all.append((endpoint.instance.id, outcome, elapsed))
            inner(endpoint, outcome, elapsed, details)

        monkeypatch.setattr(channel._dispatcher, "finished", finished)
        monkeypatch.setattr(channel._dispatcher, "wants_successes", True)

    @property
    def outcomes(self) -> list[tuple[str, Outcome]]:
        return [(name, outcome) for name, outcome, _ in self.all]


async def committed(call: Any) -> None:
    """Return once the call is one attempt, be it in progress."""
    await eventually(lambda: call._race.over)


async def arrived(server: ScriptedServer, number: int = 1) -> None:
    """Return once the server has seen so many calls."""
    await server.until(lambda: len(server.seen) >= number)


# Who is asked, and when


async def test_a_slow_server_is_hedged(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "After hedgingDelay has elapsed without a successful response, the second RPC will be issued"; the first
    success is the call's, and the loser is cancelled at its server."""
    clock = Clock()
    async with hedged(resolver, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(HANG)
        call = echo.unary_unary(b"x", metadata=(("k", "v"), ("grpc-previous-rpc-attempts", "9")))
        await arrived(scripted[0])
        clock.now += 0.09
        await asyncio.sleep(0.25)
        assert attempts(scripted) == [1, 0, 0]
        clock.now += 0.02
        assert await call == b"x s1"
        await scripted[0].until_cancelled(1)
        assert [server.previous_attempts() for server in scripted] == [[None], ["1"], []]
        assert {metadata["k"] for server in scripted for metadata in server.seen} == {"v"}
        assert await call.code() is StatusCode.OK
        assert call.done()
        assert is_idle(channel)


async def test_a_fast_server_is_not(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Who answers within the delay is the only one who is asked, and no timer is left."""
    clock = Clock()
    async with hedged(resolver, delay="0.2s", clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        for _ in range(5):
            assert await echo.unary_unary(b"x") == b"x s0"
        clock.now += 60
        await asyncio.sleep(0.4)
        assert attempts(scripted) == [5, 0, 0]


async def test_attempts_end_at_the_maximum(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "and so on, up to maxAttempts": each at an endpoint of its own, and the slow first one may still win."""
    async with hedged(resolver, 2) as channel:
        echo = await connected(channel, resolver, *scripted)
        gate = asyncio.Event()
        scripted[0].fails(Fail(StatusCode.OK, gate=gate))
        scripted[1].fails(HANG)
        call = echo.unary_unary(b"x")
        await arrived(scripted[1])
        await asyncio.sleep(0.4)  # time for more
        gate.set()
        assert await call == b"x s0"
        await scripted[1].until_cancelled(1)
        assert attempts(scripted) == [1, 1, 0]


async def test_without_a_delay_all_are_asked_at_once(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: a hedgingDelay of 0 is "to immediately send all maxAttempts RPCs"; to different endpoints."""
    async with hedged(resolver, delay="0s") as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(HANG)
        scripted[1].fails(HANG)
        gate = asyncio.Event()  # or it could win before the others' connections are made
        scripted[2].fails(Fail(StatusCode.OK, gate=gate))
        call = echo.unary_unary(b"x")
        assert "3 attempts at 127.0.0.1:" in repr(call)
        for server in scripted:
            await arrived(server)
        gate.set()
        assert await call == b"x s2"
        for server in scripted[:2]:
            await server.until_cancelled(1)
        assert sorted(server.previous_attempts()[0] or "0" for server in scripted) == ["0", "1", "2"]


async def test_a_lone_server_is_asked_twice(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Where there is no other endpoint, the hedge goes to the same one."""
    async with hedged(resolver, 2) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(HANG)
        assert await echo.unary_unary(b"x") == b"x s0"
        assert scripted[0].previous_attempts() == [None, "1"]


async def test_a_free_endpoint_comes_before_a_busy_one(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """When all endpoints were tried, the next hedge goes to one that has no attempt in progress."""
    clock = Clock()
    async with hedged(resolver, 4, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(HANG)
        scripted[1].fails(Fail(), Fail(StatusCode.OK))
        scripted[2].fails(HANG)
        call = echo.unary_unary(b"x")
        for server in scripted[::2]:  # the one between fails, which sends the next at once
            await arrived(server)
            clock.now += 0.1
        assert await call == b"x s1"
        assert attempts(scripted) == [1, 2, 1]


# Failures


async def test_a_non_fatal_failure_sends_the_next_at_once(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """gRFC A6: "the next hedged request in line is sent immediately, shortcutting its hedging delay"."""
    async with hedged(resolver, delay="20s") as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails()
        scripted[1].fails()
        async with asyncio.timeout(15):
            assert await echo.unary_unary(b"x") == b"x s2"
        assert [server.previous_attempts() for server in scripted] == [[None], ["1"], ["2"]]


async def test_a_fatal_failure_ends_the_call(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "If any other status code is received, all outstanding RPCs are canceled and the error is returned"."""
    clock = Clock()
    async with hedged(resolver, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(HANG)
        scripted[1].fails(Fail(StatusCode.ABORTED))
        call = echo.unary_unary(b"x")
        await arrived(scripted[0])
        clock.now += 0.1
        with pytest.raises(AioRpcError, match="s1 was told to fail"):
            await call
        await scripted[0].until_cancelled(1)
        assert attempts(scripted) == [1, 1, 0]
        assert is_idle(channel)


async def test_the_last_failure_is_the_calls(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "If all instances of a hedged RPC fail, there are no additional retry attempts"."""
    clock, gate = Clock(), asyncio.Event()
    async with hedged(resolver, 5, codes=("UNAVAILABLE", "ABORTED"), clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(Fail(StatusCode.ABORTED, gate=gate))
        scripted[1].fails(times=2)
        scripted[2].fails(times=2)
        call = echo.unary_unary(b"x")
        await arrived(scripted[0])
        clock.now += 0.1  # from then on it is failures that send the next
        for server in scripted[1:]:
            await arrived(server, 2)
        await eventually(lambda: "1 attempts at" in repr(call))
        gate.set()
        assert await call.code() is StatusCode.ABORTED
        assert await call.details() == "s0 was told to fail"
        assert attempts(scripted) == [1, 2, 2]
        assert is_idle(channel)


async def test_response_headers_commit(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "An RPC becomes committed [when] the client receives Response-Headers": its failure is final."""
    async with hedged(resolver, clock=Clock()) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(Fail(headers=(("a", "b"),)))
        call = echo.unary_unary(b"x")
        assert await call.code() is StatusCode.UNAVAILABLE
        assert dict(await call.initial_metadata()) == {"a": "b"}
        assert attempts(scripted) == [1, 0, 0]


async def test_attempts_that_reach_nobody_do_not_count(
    resolver: ManualResolver, scripted: list[ScriptedServer], processes: list[EchoProcess]
) -> None:
    """Transparent retries go on beside hedging: dead endpoints cost neither attempts nor the delay."""
    async with hedged(resolver, 2, delay="20s") as channel:
        echo = await connected(channel, resolver, *processes, scripted[0])
        call = echo.unary_unary(b"x", timeout=10)
        kill_and_let_grpc_know(channel, *processes)
        assert await call == b"x s0"
        assert scripted[0].previous_attempts() == [None]
        assert is_idle(channel)


async def test_a_call_without_endpoints_is_placed_again(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """No endpoint is a failed attempt with UNAVAILABLE (A6): if that is not fatal, another comes after the delay."""
    async with hedged(resolver, 5, delay="0.3s") as channel:  # as many as there may be: it may take a while to be seen
        resolver.push(snapshot(1))
        while channel.get_state(try_to_connect=True).name != "TRANSIENT_FAILURE":
            await channel.wait_for_state_change(channel.get_state())
        echo = Echo(channel)
        assert await echo.unary_unary(b"x").code() is StatusCode.UNAVAILABLE
        found = echo.unary_unary(b"x", timeout=10)
        resolver.push(snapshot(2, scripted[0].instance()))
        assert await found == b"x s0"


# Pushback, the throttle, the deadline


async def test_the_server_can_end_the_hedging(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "If the pushback says not to retry, no further hedged requests will be sent"; those sent go on."""
    clock, gate = Clock(), asyncio.Event()
    async with hedged(resolver, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(Fail(StatusCode.OK, gate=gate))
        scripted[1].fails(Fail(trailing=(("grpc-retry-pushback-ms", "-1"),)))
        call = echo.unary_unary(b"x")
        await arrived(scripted[0])
        clock.now += 0.1
        await arrived(scripted[1])
        await eventually(lambda: "1 attempts at" in repr(call))  # the refusal is known
        clock.now += 60
        await asyncio.sleep(0.3)
        gate.set()
        assert await call == b"x s0"
        scripted[0].fails(Fail(trailing=(("grpc-retry-pushback-ms", "soon"),)))
        assert await echo.unary_unary(b"x").code() is StatusCode.UNAVAILABLE
        assert attempts(scripted) == [2, 1, 0]


@pytest.mark.parametrize("first", [HANG, Fail(trailing=(("grpc-retry-pushback-ms", "0"),))])
async def test_the_server_can_say_when(resolver: ManualResolver, scripted: list[ScriptedServer], first: Fail) -> None:
    """gRFC A6: "the next hedged request (if any) will be issued after the given delay has elapsed", be another attempt
    in progress or not."""
    clock = Clock()
    async with hedged(resolver, delay="0.05s", clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(first)
        scripted[1].fails(Fail(trailing=(("grpc-retry-pushback-ms", "400"),)))
        call = echo.unary_unary(b"x")
        await arrived(scripted[0])
        if first is HANG:
            clock.now += 0.05
            await arrived(scripted[1])
            await eventually(lambda: "1 attempts at" in repr(call))  # its failure is known
            clock.now += 0.39
            await asyncio.sleep(0.5)
            assert attempts(scripted) == [1, 1, 0]
            clock.now += 0.02
        assert await call == b"x s2"
        assert scripted[2].times[0] - scripted[1].times[0] > 0.39


async def test_the_throttle_stops_hedges(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "subsequent hedged RPCs will only be sent if token_count is greater than the threshold", and successes,
    of whichever method, pay for them."""
    config = {**hedging(2), "retryThrottling": {"maxTokens": 2, "tokenRatio": 1}}
    clock, gate = Clock(), asyncio.Event()
    async with Channel("echo", resolver, policy="pick_first", service_config=config, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails()
        assert await echo.unary_unary(b"x").code() is StatusCode.UNAVAILABLE
        assert attempts(scripted) == [1, 0, 0]
        scripted[0].fails(Fail(StatusCode.OK, gate=gate))
        call = echo.unary_unary(b"x")
        await arrived(scripted[0], 2)
        clock.now += 0.1
        await asyncio.sleep(0.3)
        gate.set()
        assert await call == b"x s0"
        assert attempts(scripted) == [2, 0, 0]
        scripted[0].fails(HANG)
        call = echo.unary_unary(b"x")
        await arrived(scripted[0], 3)
        clock.now += 0.1
        assert await call == b"x s1"


async def test_the_deadline_is_that_of_all_attempts(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "gRPC call deadlines apply to the entire chain of hedged requests"."""
    async with hedged(resolver, 5, delay="0.2s") as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(HANG, times=5)
        began = time.monotonic()
        assert await echo.unary_unary(b"x", timeout=0.5).code() is StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - began > 0.45
        await eventually(lambda: is_idle(channel))
        await asyncio.sleep(0.3)
        before = attempts(scripted)
        assert sum(before) <= 3
        for number, server in enumerate(scripted):  # each has less than those before it
            assert all(left <= 0.55 - 0.2 * number for left in server.left)
        await eventually(lambda: sum(server.cancelled for server in scripted) == sum(before))
        assert attempts(scripted) == before


# Cancellation, closing


@pytest.mark.parametrize("how", ["call", "task", "close"])
async def test_cancellation_reaches_all_servers(
    resolver: ManualResolver, scripted: list[ScriptedServer], how: str
) -> None:
    """A call that is cancelled, or whose channel is closed, is cancelled at every server that has it, and no more."""
    clock = Clock()
    async with hedged(resolver, 5, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(HANG, times=5)
        call = echo.unary_unary(b"x")
        task = asyncio.ensure_future(result(call))
        await arrived(scripted[0])
        clock.now += 0.1
        await arrived(scripted[1])
        match how:
            case "call":
                assert call.cancel()
            case "task":
                task.cancel()
            case _:
                await channel.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.done()
        assert call.cancelled()
        assert await call.code() is StatusCode.CANCELLED
        for server in scripted[:2]:
            await server.until_cancelled(1)
        clock.now += 60
        await asyncio.sleep(0.3)
        assert attempts(scripted) == [1, 1, 0]
        await eventually(lambda: is_idle(channel))


async def test_closing_with_grace_lets_the_race_end(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """`close(grace)` waits for hedged calls."""
    channel = hedged(resolver, 2)
    echo = await connected(channel, resolver, *scripted)
    scripted[0].fails(HANG)
    call = echo.unary_unary(b"x")
    async with asyncio.timeout(15):
        await channel.close(grace=60)
    assert await call == b"x s1"


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_an_abandoned_stream_is_cancelled_everywhere(
    resolver: ManualResolver, scripted: list[ScriptedServer], kind: str
) -> None:
    """A stream that its owner lets go of during the race ends at all servers at once, and is sent to no other."""
    clock = Clock()
    async with hedged(resolver, 5, delay="0.2s", clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(HANG, times=5)
        call = echo.unary_stream(b"x") if kind == "unary_stream" else echo.stream_stream(iter([b"x"]))
        await arrived(scripted[0])
        clock.now += 0.2
        await arrived(scripted[1])
        del call
        for server in scripted[:2]:
            await server.until_cancelled(1)
        await eventually(lambda: is_idle(channel))
        clock.now += 60
        await asyncio.sleep(0.3)
        assert attempts(scripted) == [1, 1, 0]


async def test_an_attempt_that_is_given_up_leaves_the_race(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """When an endpoint that left is closed, attempts elsewhere go on; if there are none, the call is UNAVAILABLE."""
    config = hedging(2, "0.05s")
    async with Channel("echo", resolver, policy="pick_first", service_config=config, drain_seconds=0.2) as channel:
        echo = await connected(channel, resolver, *scripted[:2])
        gate = asyncio.Event()
        scripted[0].fails(HANG, times=2)
        scripted[1].fails(Fail(StatusCode.OK, gate=gate))
        call = echo.unary_unary(b"x")
        await arrived(scripted[1])
        resolver.push(snapshot(9, scripted[1].instance()))
        await scripted[0].until_cancelled(1)
        await eventually(lambda: "1 attempts at" in repr(call))
        gate.set()
        assert await call == b"x s1"
        scripted[1].fails(HANG, times=2)
        call = echo.unary_unary(b"x")
        await scripted[1].until(lambda: len(scripted[1].seen) == 3)
        resolver.push(snapshot(10, scripted[2].instance()))
        with pytest.raises(AioRpcError, match="left the registry, and was given up"):
            await call
        assert await call.code() is StatusCode.UNAVAILABLE


async def test_a_call_keeps_the_config_it_began_with(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that changes during a call is for the calls after it."""
    async with hedged(resolver, 2) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(HANG, Fail())
        call = echo.unary_unary(b"x")
        monkeypatch.setattr(channel._dispatcher, "config", ServiceConfig())
        assert await call == b"x s1"
        assert await echo.unary_unary(b"x").code() is StatusCode.UNAVAILABLE


async def test_a_finished_race_is_forgotten(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Calls that have ended and that nobody holds are garbage, winners and losers."""
    async with hedged(resolver, delay="0s") as channel:
        echo = await connected(channel, resolver, *scripted)
        unary, stream = echo.unary_unary(b"x"), echo.stream_stream(messages(b"x"))
        await unary
        assert len([answer async for answer in stream]) == 1
        references: list[weakref.ref[Any]] = [weakref.ref(unary), weakref.ref(stream)]
        del unary, stream

        def forgotten() -> bool:
            gc.collect()
            return all(reference() is None for reference in references)

        await eventually(forgotten)  # the losers end a little later


# Streams


async def messages(*requests: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for request in requests:
        yield request
        await asyncio.sleep(pause)


@pytest.mark.parametrize("fail", [HANG, Fail()])
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_all_kinds_are_hedged(
    resolver: ManualResolver, scripted: list[ScriptedServer], kind: str, fail: Fail
) -> None:
    """Calls of every kind go to the next server when the first is slow, or fails: streams from their first request."""
    async with hedged(resolver, 2) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(fail)
        match kind:
            case "unary_unary":
                answers = [await echo.unary_unary(b"a")]
            case "unary_stream":
                answers = [answer async for answer in echo.unary_stream(b"a")]
            case "stream_unary":
                answers = [await echo.stream_unary(messages(b"a", b"b", pause=0.01))]
            case _:
                answers = [answer async for answer in echo.stream_stream(messages(b"a"))]
        assert answers == [b"a b s1" if kind == "stream_unary" else b"a s1"]
        assert scripted[1].previous_attempts() == ["1"]
        await eventually(lambda: is_idle(channel))


@pytest.mark.parametrize("commit", [Fail(messages=2), Fail(headers=(("a", "b"),), after=1)])
async def test_a_stream_is_not_hedged_after_its_beginning(
    resolver: ManualResolver, scripted: list[ScriptedServer], commit: Fail
) -> None:
    """Its first message, or its headers, commit a stream: what follows is that server's, and nobody else is asked."""
    clock = Clock()
    async with hedged(resolver, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(commit)
        call = echo.unary_stream(b"x")
        await committed(call)
        clock.now += 60
        await asyncio.sleep(0.3)
        assert [await call.read() for _ in range(commit.messages)] == [b"x s0"] * commit.messages
        with pytest.raises(AioRpcError, match="s0 was told to fail"):
            await call.read()
        assert attempts(scripted) == [1, 0, 0]


async def test_a_stream_goes_on_where_it_began(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """All messages of a hedged stream come from one server, in order, none of them twice."""
    async with hedged(resolver, delay="0s") as channel:
        echo = await connected(channel, resolver, *servers)
        sent = [str(number).encode() for number in range(20)]
        for _ in range(20):
            assert [answer async for answer in echo.stream_stream(messages(*sent))] == sent
        names = [name async for name in echo.unary_stream(b"name")]
        assert len(names) == 1


async def test_an_owner_that_waits_for_empty_headers_gets_them(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """grpc.aio shows empty headers as it shows a failure without any, so they commit only who asks for them, or has."""
    async with hedged(resolver, clock=Clock()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for late in (False, True):
            scripted[0].fails(Fail(StatusCode.OK, headers=(), after=0.3))
            call = echo.unary_stream(b"x")
            if late:
                await scripted[0].until(lambda: len(scripted[0].seen) == 2)
                await asyncio.sleep(0.05)
            assert not await call.initial_metadata()
            await call.wait_for_connection()
            assert await call.read() == b"x s0"
        assert attempts(scripted) == [2, 0, 0]


@pytest.mark.parametrize("late", [False, True])
async def test_a_refusal_does_not_win_by_its_empty_metadata(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Empty metadata that a refusal's status follows leaves the race to others, whenever the owner has asked for it."""
    monkeypatch.setattr("grpc_balancer.headers.REFUSAL_SECONDS", 20)
    async with hedged(resolver, delay="20s") as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(Fail(headers=(), after=0.2))
        scripted[1].fails(Fail(StatusCode.OK, headers=(("a", "b"),)))
        call = echo.unary_stream(b"x")
        if late:
            await scripted[0].until(lambda: len(scripted[0].seen) == 1)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(15):
            assert dict(await call.initial_metadata()) == {"a": "b"}
            assert await call.read() == b"x s1"
        assert attempts(scripted) == [1, 1, 0]


async def test_a_slow_iterator_is_shared(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Attempts read the same requests at the same time, and a loser that is cancelled does not end the iterator."""
    ended: list[str] = []

    async def slowly() -> AsyncIterator[bytes]:
        try:
            for request in (b"a", b"b", b"c", b"d", b"e", b"f"):
                await asyncio.sleep(0.05)
                yield request
            ended.append("at its end")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with hedged(resolver, delay="0.01s") as channel:
        echo = await connected(channel, resolver, *scripted)
        answer = await echo.stream_unary(slowly())
        assert answer.startswith(b"a b c d e f s")
        assert ended == ["at its end"]
        await eventually(lambda: is_idle(channel))


async def test_the_iterator_ends_with_the_call(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """An iterator that has nothing more to give is cancelled when the call is over, and an exception of it cancels."""
    ended = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    async with hedged(resolver, delay="0s") as channel:
        echo = await connected(channel, resolver, *scripted)
        assert [answer[:1] async for answer in echo.stream_stream(silent())] == [b"a"]
        async with asyncio.timeout(30):
            await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await echo.stream_unary(broken())
        await eventually(lambda: is_idle(channel))


async def test_more_requests_than_are_kept_go_to_one_server(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """gRFC A6: committed when "the client's outgoing message has overflowed the gRPC client library's buffer"."""
    clock, gate = Clock(), asyncio.Event()
    async with hedged(resolver, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(Fail(StatusCode.OK, gate=gate))
        call = echo.stream_unary(iter([b"x"] * 10))
        await committed(call)
        clock.now += 60
        await asyncio.sleep(0.3)
        gate.set()
        assert await call == b"x " * 10 + b"s0"
        assert attempts(scripted) == [1, 0, 0]


async def test_what_is_written_is_not_hedged(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Requests given by `write()` are not kept, so such a call has one attempt."""
    async with hedged(resolver) as channel:
        echo = await connected(channel, resolver, *scripted)
        scripted[0].fails(Fail(StatusCode.OK, after=0.3))
        call = echo.stream_unary()
        await call.write(b"a")
        await call.done_writing()
        assert await call == b"a s0"
        assert attempts(scripted) == [1, 0, 0]


# What is said of the endpoints


async def test_who_loses_to_a_later_attempt_has_failed(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five lost races in a row eject an endpoint as five failures do; who loses to an earlier attempt is not blamed."""
    clock, gate = Clock(), asyncio.Event()
    async with hedged(resolver, 2, clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted[:2])
        reports = Reports(channel, monkeypatch)
        scripted[0].fails(HANG)
        call = echo.unary_unary(b"x")
        await arrived(scripted[0])
        clock.now += 0.1
        await call
        await eventually(lambda: len(reports.all) == 2)
        assert sorted(reports.outcomes) == [("s0", Outcome.FAILED), ("s1", Outcome.SUCCEEDED)]
        elapsed = {name: elapsed for name, _, elapsed in reports.all}
        assert elapsed == {"s0": pytest.approx(0.1), "s1": 0.0}
        reports.all.clear()
        scripted[0].fails(Fail(StatusCode.OK, gate=gate))
        scripted[1].fails(HANG)
        call = echo.unary_unary(b"x")
        await arrived(scripted[0], 2)
        clock.now += 0.1
        await arrived(scripted[1], 2)
        gate.set()
        await call
        await eventually(lambda: len(reports.all) == 2)
        assert sorted(reports.outcomes) == [("s0", Outcome.SUCCEEDED), ("s1", Outcome.UNKNOWN)]


async def test_who_was_hardly_given_a_start_is_not_blamed(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt whose head start was shorter than what the winner took proves nothing against its endpoint."""
    clock, gate = Clock(), asyncio.Event()
    async with hedged(resolver, 2, delay="0.05s", clock=clock) as channel:
        echo = await connected(channel, resolver, *scripted[:2])
        reports = Reports(channel, monkeypatch)
        scripted[0].fails(HANG)
        scripted[1].fails(Fail(StatusCode.OK, gate=gate))
        call = echo.unary_unary(b"x")
        await arrived(scripted[0])
        clock.now += 0.05
        await arrived(scripted[1])
        clock.now += 0.2
        gate.set()
        await call
        await eventually(lambda: len(reports.all) == 2)
        assert sorted(reports.outcomes) == [("s0", Outcome.UNKNOWN), ("s1", Outcome.SUCCEEDED)]


async def test_each_attempt_is_reported_once(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its kind and end, hedged or not: once, with its length for a unary call, with the time to the first
    message for a stream whose owner waited for it, and without one for another stream."""
    async with Channel("echo", resolver) as channel:
        echo = await connected(channel, resolver, scripted[0])
        reports = Reports(channel, monkeypatch)
        await echo.unary_unary(b"x")
        scripted[0].fails(Fail(StatusCode.INTERNAL), Fail(StatusCode.NOT_FOUND), Fail(StatusCode.OK, after=0.1), HANG)
        assert await echo.unary_unary(b"x").code() is StatusCode.INTERNAL
        assert await echo.unary_unary(b"x").code() is StatusCode.NOT_FOUND
        began = time.monotonic()
        assert [message async for message in echo.unary_stream(b"x")] == [b"x s0"]
        took = time.monotonic() - began
        cancelled = echo.unary_unary(b"x")
        await scripted[0].until(lambda: len(scripted[0].seen) == 5)
        cancelled.cancel()
        assert await echo.stream_unary(iter([b"x"])) == b"x s0"
        late = echo.unary_stream(b"x")
        for _ in range(20):  # so that one stall is not all of it
            await asyncio.sleep(0.01)
        assert await late.read() == b"x s0"
        assert await late.code() is StatusCode.OK
        outcomes = Counter(outcome for _, outcome in reports.outcomes)
        assert outcomes == {Outcome.SUCCEEDED: 5, Outcome.FAILED: 1, Outcome.UNKNOWN: 1}
        known = [elapsed for _, _, elapsed in reports.all]
        assert [elapsed is None for elapsed in known] == [False] * 5 + [True] * 2
        assert 0.09 < known[3] <= took  # type: ignore[operator]


# Processes


async def test_a_frozen_server_costs_a_delay(
    resolver: ManualResolver, processes: list[EchoProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP of one of three: no call fails, those that meet it take little longer than the delay, and five lost races
    eject it."""
    config = hedging(3, "0.1s")
    async with Channel("echo", resolver, policy="round_robin", service_config=config) as channel:
        echo = await connected(channel, resolver, *processes)
        for _ in range(9):
            await echo.unary_unary(b"name")  # their second connections, for later attempts, come with the first hedge
        reports = Reports(channel, monkeypatch)
        processes[0].pause()
        try:
            took = []
            for _ in range(60):
                began = time.monotonic()
                assert await echo.unary_unary(b"name", timeout=10) in (b"p1", b"p2")
                took.append(time.monotonic() - began)
        finally:
            processes[0].resume()
        hedged_ones = [seconds for seconds in took if seconds > 0.09]
        assert median(hedged_ones) < 0.1 + 0.4  # a stall of this machine is in one of them
        assert 5 <= reports.outcomes.count(("p0", Outcome.FAILED)) <= 8  # then its lost races have ejected it
        assert len(hedged_ones) < 30  # of 60
        assert "1 ejected" in repr(channel)
        await eventually(lambda: is_idle(channel))


# Anything, in any order


def counting(began: Counter[str]) -> Callable[..., None]:
    """`Attempt.__init__`, counted."""
    inner = Attempt.__init__

    def init(handle: Attempt, *arguments: Any) -> None:
        inner(handle, *arguments)
        began["attempts"] += 1

    return init


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_left(
    resolver: ManualResolver, servers: list[EchoServer], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """After any interleaving of starts, ends, cancellations, abandonments and removals of hedged calls nothing is
    outstanding, and each attempt that began was reported once."""
    rng = random.Random(seed)
    revision = 10
    seen: set[Endpoint] = set()
    calls: list[Any] = []
    began: Counter[str] = Counter()
    monkeypatch.setattr("grpc_balancer.attempt.Attempt.__init__", counting(began))
    config = hedging(3, rng.choice(["0s", "0.002s", "0.02s"]), codes=("UNAVAILABLE", "ABORTED"))
    async with Channel("echo", resolver, rng=rng, drain_seconds=0.2, service_config=config) as channel:
        echo = await connected(channel, resolver, *servers)
        reports = Reports(channel, monkeypatch)
        starts: list[Callable[[], Any]] = [
            lambda: echo.unary_unary(b"sleep 0.01", timeout=5),
            lambda: echo.unary_unary(b"sleep 30", timeout=0.05),
            lambda: echo.unary_unary(b"sleep 30"),
            lambda: echo.unary_unary(b"fail ABORTED no"),
            lambda: echo.unary_unary(b"fail INTERNAL no"),
            lambda: echo.unary_stream(b"repeat 3"),
            lambda: echo.unary_stream(b"sleep 30"),
            lambda: echo.stream_unary(iter([b"a", b"b"])),
            lambda: echo.stream_stream(messages(*[b"a"] * 8, pause=0.003)),
            lambda: echo.stream_unary(),
        ]
        for _ in range(150):
            seen.update(channel._dispatcher.balancer.endpoints)
            match rng.randrange(8):
                case 0 | 1 | 2 | 3:
                    calls.append(rng.choice(starts)())
                case 4 if calls:
                    rng.choice(calls).cancel()
                case 5 if calls:
                    calls.pop(rng.randrange(len(calls)))  # abandoned
                case 6:
                    revision += 1
                    listed = [server for server in servers if rng.random() < 0.7] or servers
                    resolver.push(snapshot(revision, *(server.instance() for server in listed)))
                case _:
                    await asyncio.sleep(rng.choice([0, 0, 0.005]))
        for call in calls:
            call.cancel()
        calls.clear()
        gc.collect()
        # What nobody holds and no deadline ends is one kind only: a unary call of 30 s, which goes on as in grpc.aio.
        for server in servers:
            await server.stop()
        seen.update(channel._dispatcher.balancer.endpoints)  # where a call that waited may have begun since
        async with asyncio.timeout(30):
            await asyncio.gather(*(endpoint.load.wait_idle() for endpoint in seen))
    await eventually(lambda: len(reports.all) >= began["attempts"])  # closing ended those that waited until then
    assert len(reports.all) == began["attempts"] > 0
