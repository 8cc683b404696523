"""What grpc.aio promises of channels and calls, run over its own channel and over ours, with and without interceptors.

Where a test is about ours alone, grpc.aio 1.85 falls short of its documentation; the docstring says how.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import ChannelConnectivity, StatusCode

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from tests.integration.client.echo import (
    STREAM_STREAM,
    STREAM_UNARY,
    UNARY_STREAM,
    UNARY_UNARY,
    Echo,
    EchoServer,
    snapshot,
)


class PassUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


class PassUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


class PassStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(client_call_details, request_iterator)


class PassStreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(client_call_details, request_iterator)


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    started = await EchoServer().start()
    yield started
    await started.stop()


Make = Callable[[], grpc.aio.Channel]


KINDS = [
    "grpc.aio",
    "balanced",
    "balanced, not connected yet",
    "balanced, hedged",
    "grpc.aio intercepted",
    "balanced intercepted",
]

ours = pytest.mark.parametrize("make", [kind for kind in KINDS if "balanced" in kind], indirect=True)
direct = pytest.mark.parametrize("make", [kind for kind in KINDS if "intercepted" not in kind], indirect=True)
"""For what grpc.aio's own wrappers, with which it surrounds intercepted calls, do not offer."""


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, server: EchoServer) -> Make:
    """Makes a channel to the server, of each kind in turn."""
    passing = [PassUnaryUnary(), PassUnaryStream(), PassStreamUnary(), PassStreamStream()]
    interceptors = passing if "intercepted" in request.param else []
    if request.param.startswith("grpc.aio"):
        return lambda: grpc.aio.insecure_channel(server.address, interceptors=interceptors)
    resolver = ManualResolver()
    resolver.push(snapshot(1, server.instance()))
    config = {"methodConfig": [{"name": [{}], "hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "20s"}}]}
    hedged = config if "hedged" in request.param else None
    return lambda: Channel("echo", resolver, interceptors=interceptors, service_config=hedged)


@pytest.fixture
async def channel(make: Make, request: pytest.FixtureRequest) -> AsyncIterator[grpc.aio.Channel]:
    async with make() as made:
        if "not connected" not in request.node.callspec.id:
            await made.channel_ready()
        yield made


async def chunks(*requests: bytes) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


# The four kinds


async def test_unary_unary(channel: grpc.aio.Channel) -> None:
    """One request gets its response."""
    call = Echo(channel).unary_unary(b"hello")
    assert isinstance(call, grpc.aio.UnaryUnaryCall)
    assert await call == b"hello"
    assert await call.code() is StatusCode.OK


async def test_unary_stream_iterated(channel: grpc.aio.Channel) -> None:
    """All responses come by iteration, then the status."""
    call = Echo(channel).unary_stream(b"repeat 3")
    assert isinstance(call, grpc.aio.UnaryStreamCall)
    assert [response async for response in call] == [b"repeat 3"] * 3
    assert await call.code() is StatusCode.OK


async def test_unary_stream_read(channel: grpc.aio.Channel) -> None:
    """All responses come by `read()`, then EOF, and EOF again."""
    call = Echo(channel).unary_stream(b"repeat 2")
    read = [await call.read() for _ in range(4)]
    assert read == [b"repeat 2", b"repeat 2", grpc.aio.EOF, grpc.aio.EOF]


@pytest.mark.parametrize("source", [chunks, lambda *requests: iter(requests), lambda *requests: list(requests)])
async def test_stream_unary_iterator(channel: grpc.aio.Channel, source: Callable[..., Any]) -> None:
    """Requests from any iterable are sent in order."""
    call = Echo(channel).stream_unary(source(b"a", b"b", b"c", b"d", b"e", b"f"))
    assert isinstance(call, grpc.aio.StreamUnaryCall)
    assert await call == b"a,b,c,d,e,f"


async def test_stream_unary_written(channel: grpc.aio.Channel) -> None:
    """Requests are written one by one, and `done_writing` ends them."""
    call = Echo(channel).stream_unary()
    await call.write(b"a")
    await call.write(b"b")
    await call.done_writing()
    assert await call == b"a,b"


async def test_stream_stream_iterated(channel: grpc.aio.Channel) -> None:
    """Each request gets its response."""
    call = Echo(channel).stream_stream(chunks(b"a", b"b", b"c", b"d", b"e"))
    assert isinstance(call, grpc.aio.StreamStreamCall)
    assert [response async for response in call] == [b"a", b"b", b"c", b"d", b"e"]


async def test_stream_stream_written_and_read(channel: grpc.aio.Channel) -> None:
    """Writes and reads alternate until both sides have ended."""
    call = Echo(channel).stream_stream()
    for message in (b"a", b"b"):
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is StatusCode.OK


async def test_serializers(channel: grpc.aio.Channel) -> None:
    """Requests and responses pass through the serializers of the method, in all kinds."""

    def encode(text: str) -> bytes:
        return text.encode()

    unary = channel.unary_unary(UNARY_UNARY, encode, bytes.decode)
    assert await unary("ä") == "ä"
    stream = channel.stream_stream(STREAM_STREAM, encode, bytes.decode)
    assert [text async for text in stream(iter(["ö", "ü"]))] == ["ö", "ü"]
    call = channel.stream_unary(STREAM_UNARY, encode, bytes.decode)()
    await call.write("x")
    await call.done_writing()
    assert await call == "x"
    assert [text async for text in channel.unary_stream(UNARY_STREAM, encode, bytes.decode)("y")] == ["y"]


# What a call is given


@pytest.mark.parametrize("metadata", [(("key", "value"),), [("key", "value")], grpc.aio.Metadata(("key", "value"))])
async def test_metadata_goes_both_ways(channel: grpc.aio.Channel, metadata: Any) -> None:
    """The server sees the call's metadata, the client the server's initial and trailing ones."""
    call = Echo(channel).unary_unary(b"metadata key", metadata=metadata)
    assert await call == b"value"
    assert dict(await call.initial_metadata())["initial"] == "yes"
    assert dict(await call.trailing_metadata())["trailing"] == "yes"


async def test_deadline(channel: grpc.aio.Channel) -> None:
    """A call that takes longer than its timeout ends with DEADLINE_EXCEEDED."""
    call = Echo(channel).unary_unary(b"sleep 30", timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


async def test_deadline_of_a_stream(channel: grpc.aio.Channel) -> None:
    """A stream has its deadline too."""
    call = Echo(channel).unary_stream(b"sleep 30", timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


@direct
async def test_time_remaining(channel: grpc.aio.Channel) -> None:
    """It counts down from the timeout; without one there is none."""
    call = Echo(channel).unary_unary(b"x", timeout=60)
    remaining = call.time_remaining()
    assert remaining is not None
    assert 50 < remaining <= 60
    assert Echo(channel).unary_unary(b"x").time_remaining() is None
    await call


async def test_compression(channel: grpc.aio.Channel) -> None:
    """A compressed call is answered as any other."""
    request = b"a" * 10_000
    assert await Echo(channel).unary_unary(request, compression=grpc.Compression.Gzip) == request


async def test_call_credentials_need_tls(channel: grpc.aio.Channel) -> None:
    """Credentials are not sent in plain text."""
    with pytest.raises(grpc.aio.UsageError, match="only valid on secure channels"):
        await Echo(channel).unary_unary(b"x", credentials=grpc.access_token_call_credentials("secret"))


# How a call ends


async def test_an_error_of_the_server(channel: grpc.aio.Channel) -> None:
    """The server's code, details and trailing metadata arrive in the exception and on the call."""
    call = Echo(channel).unary_unary(b"fail NOT_FOUND no such thing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "no such thing")
    assert dict(error.trailing_metadata())["trailing"] == "failed"
    assert await call.code() is StatusCode.NOT_FOUND
    assert await call.details() == "no such thing"
    assert "no such thing" in str(await call.debug_error_string())  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["iterate", "read"])
async def test_an_error_of_the_server_in_a_stream(channel: grpc.aio.Channel, how: str) -> None:
    """A stream's error is raised to its reader."""
    call = Echo(channel).unary_stream(b"fail ABORTED try again")
    with pytest.raises(grpc.aio.AioRpcError, match="try again"):
        await (anext(aiter(call)) if how == "iterate" else call.read())


async def test_unavailable_of_a_server_is_not_repeated(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """A server that answers UNAVAILABLE was reached, even if it words it like a connection that failed."""
    words = b"failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
    with pytest.raises(grpc.aio.AioRpcError):
        await Echo(channel).unary_unary(b"fail UNAVAILABLE " + words)
    assert server.calls["unary_unary"] == 1


async def test_unknown_method(channel: grpc.aio.Channel) -> None:
    """A method that the server lacks is UNIMPLEMENTED."""
    missing: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/None")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await missing(b"x")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_awaited_twice_and_by_two(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """Every await of a call gives the same response, and the server sees one call."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytearray] = channel.unary_unary(UNARY_UNARY, None, bytearray)
    call = method(b"x")

    async def wait() -> bytearray:
        return await call

    first, second = await asyncio.gather(wait(), wait())
    assert first is second is await call
    assert server.calls["unary_unary"] == 1


async def test_never_awaited(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """A call is made when it is made, not when it is awaited."""
    Echo(channel).unary_unary(b"x")
    gc.collect()
    await server.until(lambda: server.calls["unary_unary"] == 1)


async def test_only_a_done_callback(channel: grpc.aio.Channel) -> None:
    """A done callback is called with the call, though nobody awaits it."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    call = Echo(channel).unary_unary(b"x")
    call.add_done_callback(done.set_result)
    async with asyncio.timeout(30):
        assert await done is call
    assert call.done()


async def test_a_done_callback_after_the_end(channel: grpc.aio.Channel) -> None:
    """A callback that is added to a finished call is called at once."""
    call = Echo(channel).unary_unary(b"x")
    await call
    seen: list[Any] = []
    call.add_done_callback(seen.append)
    assert seen == [call]


@ours
async def test_a_failing_done_callback(channel: grpc.aio.Channel) -> None:
    """A done callback that raises is reported to the loop (grpc.aio 1.85 drops the others, and the response)."""

    def fail(call: Any) -> None:
        raise KeyError

    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    call = Echo(channel).unary_unary(b"x")
    seen: list[Any] = []
    call.add_done_callback(fail)
    call.add_done_callback(seen.append)
    assert await call == b"x"
    assert seen == [call]
    assert [type(error) for error in reported] == [KeyError]


async def test_status_without_awaiting_the_response(channel: grpc.aio.Channel) -> None:
    """Code and metadata can be had without the response."""
    call = Echo(channel).unary_unary(b"metadata x")
    assert dict(await call.initial_metadata())["initial"] == "yes"
    assert await call.code() is StatusCode.OK


async def test_wait_for_connection(channel: grpc.aio.Channel) -> None:
    """It returns once the call has a connection, for every kind."""
    echo = Echo(channel)
    calls: list[Any] = [
        echo.unary_unary(b"x"),
        echo.unary_stream(b"x"),
        echo.stream_unary(iter([b"x"])),
        echo.stream_stream(iter([b"x"])),
    ]
    async with asyncio.timeout(30):
        for call in calls:
            await call.wait_for_connection()
    assert await calls[0] == await calls[2] == b"x"
    assert [response async for response in calls[1]] == [response async for response in calls[3]] == [b"x"]


# Cancellation


async def test_cancelled_at_once(channel: grpc.aio.Channel) -> None:
    """A call that is cancelled before it is awaited says so everywhere."""
    call = Echo(channel).unary_unary(b"sleep 30")
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert call.done()
    assert not call.cancel()
    assert await call.code() is StatusCode.CANCELLED
    assert await call.details() == "Locally cancelled by application!"


async def test_cancelled_in_flight(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """Cancelling a call cancels its handler at the server."""
    call = Echo(channel).unary_unary(b"sleep 30")
    await server.until(lambda: server.running == 1)
    assert call.cancel()
    await server.until(lambda: server.cancelled == 1)
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("kind", ["unary", "iterate", "read"])
async def test_a_cancelled_task_cancels_its_call(channel: grpc.aio.Channel, server: EchoServer, kind: str) -> None:
    """Cancelling the task that awaits a call, or reads from it, cancels the call."""
    unary = Echo(channel).unary_unary
    stream = Echo(channel).unary_stream

    async def wait() -> None:
        match kind:
            case "unary":
                await unary(b"sleep 30")
            case "iterate":
                async for _ in stream(b"sleep 30"):
                    pass
            case "read":
                await stream(b"sleep 30").read()

    task = asyncio.create_task(wait())
    await server.until(lambda: server.running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.cancelled == 1)


async def test_a_timeout_of_asyncio_cancels_the_call(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """`asyncio.timeout` around a call is a deadline like any other."""

    async def given_up() -> None:
        async with asyncio.timeout(None) as limit:
            call = Echo(channel).unary_unary(b"sleep 30")
            await server.until(lambda: server.running == 1)  # one that has not left is cancelled nowhere
            limit.reschedule(asyncio.get_running_loop().time())
            await call

    with pytest.raises(TimeoutError):
        await given_up()
    await server.until(lambda: server.cancelled == 1)


async def test_a_finished_call_cannot_be_cancelled(channel: grpc.aio.Channel) -> None:
    """Cancelling comes too late after the end."""
    call = Echo(channel).unary_unary(b"x")
    await call
    assert not call.cancel()
    assert not call.cancelled()


@ours
async def test_an_abandoned_stream_is_cancelled(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """A stream that nobody holds any more ends at the server (in grpc.aio 1.85 it runs on)."""
    async for _ in Echo(channel).unary_stream(b"repeat 1000000000"):
        break
    gc.collect()
    await server.until(lambda: server.running == 0)


# Streams


@direct
async def test_styles_do_not_mix(channel: grpc.aio.Channel) -> None:
    """Reading a call that is iterated, and writing to one that has an iterator, are refused."""
    call = Echo(channel).stream_stream(chunks(b"a", b"b"))
    with pytest.raises(grpc.aio.UsageError):
        await call.write(b"c")
    async for _ in call:
        with pytest.raises(grpc.aio.UsageError):
            await call.read()
        break
    call.cancel()


async def test_no_write_after_the_last(channel: grpc.aio.Channel) -> None:
    """Writing after `done_writing` is refused; `done_writing` again is not."""
    call = Echo(channel).stream_unary()
    await call.write(b"a")
    await call.done_writing()
    with contextlib.suppress(asyncio.InvalidStateError):
        await call.write(b"b")  # behind interceptors this one may still find room in a queue
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"b")
    assert await call == b"a"


async def test_no_write_after_the_end(channel: grpc.aio.Channel) -> None:
    """Writing to a cancelled call is refused, reading from it says that it was cancelled."""
    call = Echo(channel).stream_stream()
    await call.write(b"a")
    assert await call.read() == b"a"
    call.cancel()
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"b")
    with pytest.raises(asyncio.CancelledError):
        await call.read()


async def test_requests_that_fail_cancel_the_call(channel: grpc.aio.Channel) -> None:
    """An exception in the caller's iterator cancels the call."""

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    call = Echo(channel).stream_unary(broken())
    with pytest.raises(asyncio.CancelledError):
        await call


# Bad input


@ours
async def test_a_failing_serializer_is_heard_of(channel: grpc.aio.Channel, server: EchoServer) -> None:
    """What cannot be serialized is not sent (grpc.aio 1.85 sends an empty message)."""

    def fail(request: object) -> bytes:
        raise TypeError("not serializable")

    with pytest.raises(TypeError, match="not serializable"):
        await channel.unary_unary(UNARY_UNARY, fail)(object())
    assert not server.calls


@ours
async def test_a_failing_deserializer_is_internal(channel: grpc.aio.Channel) -> None:
    """A response that cannot be read is an error of the call (grpc.aio 1.85 returns None)."""

    def fail(response: bytes) -> object:
        raise ValueError("truncated")

    method: grpc.aio.UnaryUnaryMultiCallable[bytes, object] = channel.unary_unary(UNARY_UNARY, None, fail)
    with pytest.raises(grpc.aio.AioRpcError, match="truncated") as caught:
        await method(b"x")
    assert caught.value.code() is StatusCode.INTERNAL


@pytest.mark.parametrize("metadata", [(("Bad Key", "x"),), (("key", 1),), (("key-bin", "text"),)])
async def test_bad_metadata_is_refused(channel: grpc.aio.Channel, metadata: Any) -> None:
    """Metadata that cannot be sent fails the call, and leaves nothing behind."""
    with pytest.raises((TypeError, grpc.aio.InternalError)):
        await Echo(channel).unary_unary(b"x", metadata=metadata)
    assert await Echo(channel).unary_unary(b"x") == b"x"


# The channel


async def test_states(make: Make) -> None:
    """IDLE, then READY when asked to connect, SHUTDOWN when closed."""
    channel = make()
    assert channel.get_state() is ChannelConnectivity.IDLE
    async with asyncio.timeout(30):
        await channel.channel_ready()
    assert channel.get_state() is ChannelConnectivity.READY
    await channel.close()
    assert channel.get_state() is ChannelConnectivity.SHUTDOWN
    with pytest.raises(grpc.aio.UsageError):
        await channel.channel_ready()


async def test_state_changes_can_be_waited_for(make: Make, server: EchoServer) -> None:
    """`wait_for_state_change` returns when the state is another one."""
    async with make() as channel:
        await channel.channel_ready()
        change = asyncio.ensure_future(channel.wait_for_state_change(ChannelConnectivity.READY))
        await asyncio.sleep(0)
        assert not change.done()
        await server.stop()
        async with asyncio.timeout(30):
            await change
        assert channel.get_state() is not ChannelConnectivity.READY


async def test_a_closed_channel_refuses_calls(make: Make) -> None:
    """Calls on a closed channel raise; closing again does nothing."""
    channel = make()
    method = Echo(channel).unary_unary
    await channel.close()
    await channel.close()
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        await method(b"x")


async def test_closing_cancels_what_is_in_flight(make: Make, server: EchoServer) -> None:
    """Without grace, calls in progress are cancelled."""
    channel = make()
    call = Echo(channel).unary_unary(b"sleep 30")
    await server.until(lambda: server.running == 1)
    await channel.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.until(lambda: server.cancelled == 1)


async def test_closing_with_grace_lets_calls_finish(make: Make, server: EchoServer) -> None:
    """With grace, calls in progress finish, and closing takes no longer than they do."""
    channel = make()
    call = Echo(channel).unary_unary(b"sleep 0.3")
    await server.until(lambda: server.running == 1)
    async with asyncio.timeout(10):
        await channel.close(grace=60)
    assert await call == b"sleep 0.3"


async def test_grace_ends(make: Make, server: EchoServer) -> None:
    """Calls that outlast the grace are cancelled."""
    channel = make()
    call = Echo(channel).unary_unary(b"sleep 30")
    await server.until(lambda: server.running == 1)
    await channel.close(grace=0.2)
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_negative_grace_is_refused(make: Make) -> None:
    """A grace below zero is an error of the caller."""
    async with make() as channel:
        with pytest.raises(ValueError, match="non-negative"):
            await channel.close(grace=-1)
