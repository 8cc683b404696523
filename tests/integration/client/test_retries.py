"""Retries as gRFC A6 has them, over real connections: who is asked again, when, with what, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from grpc import ChannelConnectivity, StatusCode
from grpc.aio import AioRpcError

from grpc_balancer import Channel, Explanation, InvalidServiceConfig
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, State
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import (
    UNARY_UNARY,
    Echo,
    EchoProcess,
    EchoServer,
    kill_and_let_grpc_know,
    snapshot,
)
from tests.integration.client.scripted import Fail, ScriptedServer, attempts, eventually, is_idle, result
from tests.servers.ports import free_port


def retrying(attempts: int = 4, backoff: str = "0.01s", codes: tuple[str, ...] = ("UNAVAILABLE",)) -> dict[str, Any]:
    """A service config that retries every method."""
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": backoff,
        "maxBackoff": "1s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": list(codes),
    }
    return {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}


@pytest.fixture
async def scripted() -> AsyncIterator[list[ScriptedServer]]:
    """Three servers, s0 to s2, that answer until they are told to fail."""
    started = [await ScriptedServer(f"s{number}").start() for number in range(3)]
    yield started
    for server in started:
        await server.stop()


async def connected(channel: Channel, resolver: ManualResolver, *servers: ScriptedServer | EchoServer) -> Echo:
    """A stub of `channel` once it is connected to all of `servers`."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    channel.get_state(try_to_connect=True)
    await all_connected(channel, len(servers))
    return Echo(channel)


def comes_back(seconds: float) -> Fail:
    """A failure after which the server asks for a pause of that length."""
    return Fail(trailing=(("grpc-retry-pushback-ms", f"{1000 * seconds:.0f}"),))


def backing_off(channel: Channel) -> int:
    return len(channel._dispatcher._backing_off)


# Who is asked again


async def test_a_failed_call_is_made_again_elsewhere(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "every retry gets a chance to be sent out on a different subchannel"; here it always takes it."""
    async with Channel("echo", resolver, policy="round_robin", service_config=retrying()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted[:2]:
            server.fails(times=10)
        for _ in range(6):
            assert await echo.unary_unary(b"x") == b"x s2"
        assert len(scripted[2].seen) == 6
        assert set(scripted[2].previous_attempts()) <= {None, "1", "2"}
        assert is_idle(channel)


async def test_each_retry_can_be_looked_at(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """`on_pick` is told of every attempt, and that those which the call has tried are left out for that."""
    seen: list[Explanation] = []
    async with Channel("echo", resolver, service_config=retrying(), on_pick=seen.append) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails()
        await echo.unary_unary(b"x")
        first, second, *_ = (one.picked.id for one in seen if one.picked)
        left_out = [{row.instance.id for row in one.left_out} for one in seen]
        assert left_out == [set(), {first}, {first, second}, set()]  # in the end all were tried, and may be again
        assert {row.left_out for one in seen for row in one.left_out} == {"this call has tried it"}


async def test_the_server_sees_how_many_attempts_came_before(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """gRFC A6: `grpc-previous-rpc-attempts` "will not be present on the first RPC, will be 1 for the second RPC, and so
    on"; where there is only one endpoint, all attempts go there."""
    async with Channel("echo", resolver, service_config=retrying(5)) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(times=3)
        assert await echo.unary_unary(b"x", metadata=(("k", "v"), ("grpc-previous-rpc-attempts", "9"))) == b"x s0"
        assert scripted[0].previous_attempts() == [None, "1", "2", "3"]
        assert {metadata["k"] for metadata in scripted[0].seen} == {"v"}
        assert is_idle(channel)


async def test_attempts_end_at_the_maximum(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Servers get exactly `maxAttempts` calls, C-core adding none, and the caller gets the last one's failure."""
    async with Channel("echo", resolver, service_config=retrying(4)) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(Fail(trailing=(("from", server.name),)), times=10)
        call = echo.unary_unary(b"x")
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.details() == await call.details()
        assert str(caught.value.details()).endswith("was told to fail")
        assert sorted(attempts(scripted)) == [1, 1, 2]
        assert (await call.trailing_metadata())["from"] == max(scripted, key=lambda server: len(server.seen)).name
        assert is_idle(channel)


@pytest.mark.parametrize("code", [StatusCode.INTERNAL, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED])
async def test_other_failures_are_final(
    resolver: ManualResolver, scripted: list[ScriptedServer], code: StatusCode
) -> None:
    """gRFC A6: "Fatal Status Code […] Don't retry"."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(Fail(code))
        assert await echo.unary_unary(b"x").code() is code
        assert sum(attempts(scripted)) == 1


async def test_any_listed_status_is_retried(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """The codes are the service owner's choice; even a server's CANCELLED, which is not our own."""
    config = retrying(3, codes=("ABORTED", "CANCELLED"))
    async with Channel("echo", resolver, service_config=config) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(StatusCode.ABORTED), Fail(StatusCode.CANCELLED))
        assert await echo.unary_unary(b"x") == b"x s0"


async def test_only_the_methods_that_are_named_are_retried(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """Without a retry policy a failure that a server may have had a part in is final."""
    config = retrying()
    config["methodConfig"][0]["name"] = [{"service": "test.Echo", "method": "UnaryUnary"}]
    async with Channel("echo", resolver, service_config=config) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(times=2)
        assert await echo.stream_unary(iter([b"x"])).code() is StatusCode.UNAVAILABLE
        assert attempts(scripted) == [1, 0, 0]
        assert await echo.unary_unary(b"x").code() is StatusCode.OK
        assert attempts(scripted) == [3, 0, 0]


async def test_attempts_that_reach_nobody_do_not_count(
    resolver: ManualResolver, scripted: list[ScriptedServer], processes: list[EchoProcess]
) -> None:
    """gRFC A6: "transparent retries do not count toward the limit of configured RPC attempts"."""
    async with Channel("echo", resolver, policy="round_robin", service_config=retrying(2)) as channel:
        resolver.push(snapshot(1, scripted[0].instance(), *(process.instance() for process in processes)))
        await all_connected(channel, 4)
        calls = [Echo(channel).unary_unary(b"x") for _ in range(4)]
        scripted[0].fails()
        kill_and_let_grpc_know(channel, *processes)
        assert [await call for call in calls] == [b"x s0"] * 4
        assert sorted(scripted[0].previous_attempts(), key=str) == ["1", None, None, None, None]


async def test_a_lack_of_endpoints_is_retried_too(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: when no endpoint can be picked, "the RPC will be handled by the configured retry policy"."""
    gone = Instance("echo", f"127.0.0.1:{free_port()}", id="gone")
    async with Channel("echo", resolver, service_config=retrying(5, "0.3s")) as channel:
        resolver.push(snapshot(1, gone))
        while channel.get_state(try_to_connect=True) is not ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        call = Echo(channel).unary_unary(b"x", timeout=10)
        assert "1 calls backing off" in repr(channel)
        resolver.push(snapshot(2, scripted[0].instance()))
        assert await call == b"x s0"
        assert scripted[0].previous_attempts()[0] in ("1", "2", "3")  # it takes a moment to connect


# When


async def test_the_backoff_is_waited_for(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """The second attempt comes no earlier than 0.8 times the initial backoff after the first."""
    async with Channel("echo", resolver, service_config=retrying(2, "0.2s")) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails()
        await echo.unary_unary(b"x")
        first, second = scripted[0].times
        assert second - first > 0.155


async def test_the_server_may_say_when(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: after a pushback the client "will retry after exactly that delay"."""
    async with Channel("echo", resolver, service_config=retrying(3, "30s")) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(trailing=(("grpc-retry-pushback-ms", "250"),)))
        scripted[0].fails(Fail(trailing=(("grpc-retry-pushback-ms", "0"),)))
        assert await echo.unary_unary(b"x") == b"x s0"
        first, second, third = scripted[0].times
        assert 0.245 < second - first < 10
        assert third - second < 10


@pytest.mark.parametrize("said", ["-1", "soon", "1.5", ""])
async def test_the_server_may_forbid_it(resolver: ManualResolver, scripted: list[ScriptedServer], said: str) -> None:
    """gRFC A6: a value that is "negative or unparseble […] will be seen as the server asking the client not to retry at
    all"."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(Fail(trailing=(("grpc-retry-pushback-ms", said),)))
        assert await echo.unary_unary(b"x").code() is StatusCode.UNAVAILABLE
        assert sum(attempts(scripted)) == 1


async def test_no_backoff_outlives_the_deadline(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "gRPC's call deadline applies across all attempts": a backoff that it would cut short is not begun, and
    the caller gets the failure itself, at once."""
    now, gate = 1000.0, asyncio.Event()
    async with Channel("echo", resolver, service_config=retrying(5, "1s"), clock=lambda: now) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(), Fail(gate=gate), *[Fail()] * 3)
        call = echo.unary_unary(b"x", timeout=60)
        await scripted[0].until(lambda: len(scripted[0].seen) == 2)
        now += 59.5
        gate.set()
        assert await call.code() is StatusCode.UNAVAILABLE
        remaining = call.time_remaining()
        assert remaining is not None
        assert 0 < remaining < 0.8
        assert attempts(scripted) == [2, 0, 0]


async def test_a_retry_has_what_is_left_of_the_time(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """The deadline of a later attempt is the call's own, not a new one; and when it has passed, no attempt follows."""
    config = retrying(5, "0.3s", codes=("UNAVAILABLE", "DEADLINE_EXCEEDED"))
    async with Channel("echo", resolver, service_config=config) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(), Fail(after=30))
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await echo.unary_unary(b"x", timeout=4).code() is StatusCode.DEADLINE_EXCEEDED
        assert loop.time() - started > 3.9
        assert scripted[0].previous_attempts() == [None, "1"]
        assert scripted[0].left[1] < 4 - 0.2
        assert is_idle(channel)


async def test_the_throttle_stops_a_storm(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: when half of the tokens are gone "RPCs will not be retried": servers that fail everything get hardly
    more calls than were made, until successes have paid the tokens back."""
    config = {**retrying(5, "0.001s"), "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.5}}
    async with Channel("echo", resolver, service_config=config) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(times=10_000)
        calls = [echo.unary_unary(b"x") for _ in range(100)]
        assert {await call.code() for call in calls} == {StatusCode.UNAVAILABLE}
        assert sum(attempts(scripted)) <= 104
        for server in scripted:
            server.script.clear()
        assert repr(channel._dispatcher.throttle) == "<Throttle 0 of 10 tokens>"
        for _ in range(14):
            await echo.stream_unary(iter([b"x"]))
        draining = [replace(server.instance(), state=State.DRAINING) for server in scripted[1:]]
        resolver.push(snapshot(2, scripted[0].instance(), *draining))
        await all_connected(channel, 1)
        before = len(scripted[0].seen)
        scripted[0].fails()
        assert await echo.unary_unary(b"x").code() is StatusCode.OK  # 7 tokens, less one for the failure
        assert len(scripted[0].seen) - before == 2


# Cancellation, closing


async def test_cancelled_while_backing_off(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """A call that is cancelled during its backoff is over at once, and makes no further attempt."""
    async with Channel("echo", resolver, service_config=retrying(4)) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(comes_back(60), times=2)
        call = echo.unary_unary(b"x")
        task = asyncio.ensure_future(result(echo.unary_unary(b"x")))
        await eventually(lambda: backing_off(channel) == 2)
        timers = list(channel._dispatcher._backing_off.values())
        assert not call.done()
        assert repr(call).endswith(": waiting for an endpoint>")
        assert call.cancel()
        assert call.cancelled()
        assert call.done()
        assert await call.code() is StatusCode.CANCELLED
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_idle(channel)
        assert all(timer.cancelled() for timer in timers)
        assert attempts(scripted) == [2, 0, 0]


async def test_cancelled_during_an_attempt(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """What its owner cancels is not retried, whatever the retryable codes are."""
    async with Channel("echo", resolver, service_config=retrying(codes=("CANCELLED",))) as channel:
        echo = await connected(channel, resolver, servers[0])
        call = echo.unary_unary(b"sleep 30")
        await servers[0].until(lambda: servers[0].running == 1)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.done()
        assert is_idle(channel)


@pytest.mark.parametrize(("grace", "code"), [(None, StatusCode.CANCELLED), (60.0, StatusCode.OK)])
async def test_closing_ends_calls_that_back_off(
    resolver: ManualResolver, scripted: list[ScriptedServer], grace: float | None, code: StatusCode
) -> None:
    """`close()` cancels a call in its backoff; `close(grace)` lets it have its next attempt."""
    channel = Channel("echo", resolver, service_config=retrying(2))
    echo = await connected(channel, resolver, scripted[0])
    scripted[0].fails(comes_back(4))
    call = echo.unary_unary(b"x")
    await eventually(lambda: backing_off(channel) == 1)
    async with asyncio.timeout(30):
        await channel.close(grace)
    assert call.done()
    assert await call.code() is code


# What is committed


async def test_response_headers_commit(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """gRFC A6: "An RPC becomes committed [when] the client receives Response-Headers"."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(headers=(("a", "b"),)), times=2)
        assert await echo.unary_unary(b"x").code() is StatusCode.UNAVAILABLE
        stream = echo.unary_stream(b"x")
        assert dict(await stream.initial_metadata()) == {"a": "b"}
        with pytest.raises(AioRpcError):
            await stream.read()
        assert attempts(scripted) == [2, 0, 0]


async def test_empty_headers_in_the_owners_hands_commit(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """Metadata that was given to the owner, be it none, is not followed by another server's."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(headers=(), messages=1))
        stream = echo.unary_stream(b"x")
        assert not await stream.initial_metadata()
        assert await stream.read() == b"x s0"
        with pytest.raises(AioRpcError):
            await stream.read()
        assert attempts(scripted) == [1, 0, 0]


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_metadata_is_that_of_the_attempt_that_counts(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Who asks for the initial metadata before the first attempt has failed gets that of the last, though a refusal's
    empty metadata can come before its status: of a `stream_unary` call grpc.aio always gives it so."""
    monkeypatch.setattr("grpc_balancer.headers.REFUSAL_SECONDS", 30)  # however busy this machine is
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(), Fail(), Fail(StatusCode.INTERNAL, headers=(("a", "b"),)))
        call = getattr(echo, kind)(b"x" if kind.startswith("unary") else iter([b"x"]))
        assert dict(await call.initial_metadata()) == {"a": "b"}
        assert await call.code() is StatusCode.INTERNAL


async def test_a_status_soon_after_empty_metadata_is_a_refusal(
    resolver: ManualResolver, scripted: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty metadata is not the owner's, and commits nothing, before a refusal's status has had time to follow it."""
    monkeypatch.setattr("grpc_balancer.headers.REFUSAL_SECONDS", 30)
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(Fail(headers=(), after=0.1), Fail(StatusCode.OK, headers=(("a", "b"),)))
        call = echo.unary_stream(b"x")
        assert dict(await call.initial_metadata()) == {"a": "b"}
        assert await call.read() == b"x s0"
        assert scripted[0].previous_attempts() == [None, "1"]


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_a_stream_is_repeated_before_its_first_message(
    resolver: ManualResolver, scripted: list[ScriptedServer], kind: str
) -> None:
    """A stream of which nothing was received is sent again from its first request."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(times=2)
        match kind:
            case "unary_stream":
                answers = [answer async for answer in echo.unary_stream(b"a")]
            case "stream_unary":
                answers = [await echo.stream_unary(iter([b"a"]))]
            case _:
                answers = [answer async for answer in echo.stream_stream(iter([b"a"]))]
        assert answers == [b"a s0"]
        assert scripted[0].previous_attempts() == [None, "1", "2"]
        assert is_idle(channel)


async def test_a_stream_is_not_repeated_after_its_first_message(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """Once a message was received, the failure is the owner's, and no other server sees the call."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(Fail(messages=2), times=2)
        for stream in (echo.unary_stream(b"x"), echo.stream_stream(iter([b"x"]))):
            assert await stream.read() == await stream.read()
            with pytest.raises(AioRpcError):
                await stream.read()
            assert await stream.code() is StatusCode.UNAVAILABLE
        assert sum(attempts(scripted)) == 2


async def test_what_was_written_is_not_repeated(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Requests given by `write()` are not kept, so such a call is committed by the first: A6's full buffer."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails()
        stream = echo.stream_stream()
        await stream.write(b"x")
        with pytest.raises(AioRpcError):
            await stream.read()
        assert sum(attempts(scripted)) == 1


async def test_more_requests_than_are_kept_are_not_repeated(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """gRFC A6: committed when "the client's outgoing message has overflowed the gRPC client library's buffer"."""
    async with Channel("echo", resolver, service_config=retrying()) as channel:
        echo = await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails()
        assert await echo.stream_unary(iter([b"x"] * 10)).code() is StatusCode.UNAVAILABLE
        assert sum(attempts(scripted)) == 1


async def test_an_abandoned_stream_is_not_retried_for_nobody(
    resolver: ManualResolver, scripted: list[ScriptedServer]
) -> None:
    """A stream that its owner let go of during the backoff is not sent again after it, and nothing of it is left."""
    async with Channel("echo", resolver, service_config=retrying(3)) as channel:
        echo = await connected(channel, resolver, scripted[0])
        scripted[0].fails(comes_back(1))
        stream = echo.unary_stream(b"x")
        async with asyncio.timeout(30):
            while backing_off(channel) == 0:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0)  # seen before the backoff can be over, although the process stood still
        del stream
        await asyncio.sleep(1.2)  # the backoff is over, and what is sent again is answered at once
        await eventually(lambda: is_idle(channel))
        assert attempts(scripted) == [1, 0, 0]


# What else the config says


async def test_the_shorter_timeout_counts(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """service_config.proto: "the minimum of the value specified here and the value set by the application"."""
    config = {"methodConfig": [{"name": [{}], "timeout": "0.2s"}]}
    async with Channel("echo", resolver, service_config=config) as channel:
        echo = await connected(channel, resolver, *servers)
        for timeout in (None, 30.0):
            call = echo.unary_unary(b"sleep 30", timeout=timeout)
            remaining = call.time_remaining()
            assert remaining is not None
            assert remaining <= 0.2
            assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        short = echo.unary_unary(b"sleep 30", timeout=0.01).time_remaining()
        assert short is not None
        assert short <= 0.01


async def test_a_call_waits_for_ready_by_default_if_the_config_says_so(resolver: ManualResolver) -> None:
    """service_config.proto: `waitForReady` is the default, which "the value specified via the gRPC client API will
    override"."""
    config = {"methodConfig": [{"name": [{}], "waitForReady": True}]}
    async with Channel("echo", resolver, service_config=config) as channel:
        resolver.push(snapshot(1))
        while channel.get_state(try_to_connect=True) is not ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        echo = Echo(channel)
        assert await echo.unary_unary(b"x", timeout=0.1).code() is StatusCode.DEADLINE_EXCEEDED
        assert await echo.unary_unary(b"x", timeout=10, wait_for_ready=False).code() is StatusCode.UNAVAILABLE


async def test_interceptors_see_one_call(resolver: ManualResolver, scripted: list[ScriptedServer]) -> None:
    """Retries happen below the interceptors; a call that one of them renames obeys the config of its new name."""
    seen: list[Any] = []

    class Renaming(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(client_call_details.method)
            return await continuation(client_call_details._replace(method=UNARY_UNARY), request)

    config = retrying()
    config["methodConfig"][0]["name"] = [{"service": "test.Echo", "method": "UnaryUnary"}]
    async with Channel("echo", resolver, service_config=config, interceptors=[Renaming()]) as channel:
        await connected(channel, resolver, *scripted)
        for server in scripted:
            server.fails(times=1)
        other: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/other.Service/Method")
        assert (await other(b"x")).startswith(b"x s")
        assert sum(attempts(scripted)) == 4
        assert len(seen) == 1


async def test_the_config_may_choose_the_policy(resolver: ManualResolver) -> None:
    """service_config.proto: "If the policy name is set via the client API, that value overrides the value specified
    here"."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"unheard_of": {}}, {"round_robin": {}}]}
    assert repr(Channel("echo", resolver)).startswith("<Channel least_outstanding ")
    assert repr(Channel("echo", resolver, service_config=config)).startswith("<Channel round_robin ")
    assert repr(Channel("echo", resolver, policy="random", service_config=config)).startswith("<Channel random ")


async def test_a_wrong_config_is_refused(resolver: ManualResolver) -> None:
    """A config that breaks a rule makes no channel, and one given to gRPC itself does not either."""
    with pytest.raises(InvalidServiceConfig, match=r"^methodConfig\[0\].retryPolicy.maxAttempts: must be an integer"):
        Channel("echo", resolver, service_config=retrying(1))
    with pytest.raises(ValueError, match=r"'grpc\.service_config': give it to the channel as service_config"):
        Channel("echo", resolver, options=[("grpc.service_config", "{}")])
