"""What grpc promises of blocking channels and calls, run over its own channel and over ours, intercepted or not.

Where a test is about ours alone, grpcio 1.85 does otherwise; the docstring says how.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc import ChannelConnectivity, StatusCode

from grpc_balancer import sync
from tests.integration.client.blocking import SECONDS, BlockingEcho, ServerElsewhere, resolving, server_elsewhere
from tests.integration.client.echo import STREAM_STREAM, STREAM_UNARY, UNARY_STREAM, UNARY_UNARY

KINDS = ["grpc", "balanced", "balanced, not connected yet", "grpc intercepted", "balanced intercepted"]

ours = pytest.mark.parametrize("make", [kind for kind in KINDS if "balanced" in kind], indirect=True)
direct = pytest.mark.parametrize("make", [kind for kind in KINDS if "intercepted" not in kind], indirect=True)
"""For what grpc's own wrappers, with which it surrounds intercepted calls, do not offer."""

Make = Callable[[], grpc.Channel]


class Pass(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Passes all four kinds of calls on."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(client_call_details, request_iterator)


@pytest.fixture
def server() -> Iterator[ServerElsewhere]:
    with server_elsewhere() as started:
        yield started


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, server: ServerElsewhere) -> Make:
    """Makes a channel to the server, of each kind in turn."""

    def make_channel() -> grpc.Channel:
        channel: grpc.Channel
        if request.param.startswith("grpc"):
            channel = grpc.insecure_channel(server.inside.address)
        else:
            channel = sync.Channel("echo", resolving(server))
        return grpc.intercept_channel(channel, Pass()) if "intercepted" in request.param else channel

    return make_channel


@pytest.fixture
def channel(make: Make, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with make() as made:
        if "not connected" not in request.node.callspec.id:
            connect(made)
        yield made


def connect(channel: grpc.Channel) -> None:
    """By a call that no test counts, and not by a `channel_ready_future`: see `at_rest`."""
    missing: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/None")
    with pytest.raises(grpc.RpcError) as caught:
        missing(b"", timeout=SECONDS, wait_for_ready=True)
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


def at_rest(channel: Any) -> None:
    """Return once no thread of grpc's own channel looks at its state for those who subscribed, and left.

    If the channel is closed between two of its looks, that thread raises (1.85.1), which fails whatever test then runs.
    """
    inner = getattr(channel, "_channel", None)  # where it is intercepted
    state = getattr(channel, "_connectivity_state", None) or getattr(inner, "_connectivity_state", None)
    late = time.monotonic() + SECONDS
    while state is not None and state.polling:
        assert time.monotonic() < late
        time.sleep(0.01)


@pytest.fixture
def echo(channel: grpc.Channel) -> BlockingEcho:
    return BlockingEcho(channel)


# The four kinds


def test_unary_unary(echo: BlockingEcho) -> None:
    """One request gets its response, with the call, or without, or in a future."""
    assert echo.unary_unary(b"hello") == b"hello"
    response, call = echo.unary_unary.with_call(b"hello")
    assert response == b"hello"
    assert isinstance(call, grpc.Call)
    assert call.code() is StatusCode.OK
    future = echo.unary_unary.future(b"hello")
    assert isinstance(future, grpc.Future)
    assert isinstance(future, grpc.Call)
    assert future.result(SECONDS) == b"hello"


def test_unary_stream(echo: BlockingEcho) -> None:
    """All responses come by iteration, then the status."""
    call = echo.unary_stream(b"repeat 100")
    assert isinstance(call, grpc.Call)
    assert list(call) == [b"repeat 100"] * 100
    assert call.code() is StatusCode.OK
    assert list(call) == []


@pytest.mark.parametrize("source", [list, iter, lambda requests: (request for request in requests)])
def test_stream_unary(echo: BlockingEcho, source: Callable[..., Any]) -> None:
    """Requests from an iterator are sent in order."""
    requests = [str(number).encode() for number in range(50)]
    request = source(requests) if source is not list else iter(requests)
    assert echo.stream_unary(request) == b",".join(requests)
    response, call = echo.stream_unary.with_call(iter(requests))
    assert response == b",".join(requests)
    assert call.code() is StatusCode.OK
    assert echo.stream_unary.future(iter(requests)).result(SECONDS) == b",".join(requests)


def test_stream_stream(echo: BlockingEcho) -> None:
    """Each request gets its response."""
    requests = [str(number).encode() for number in range(50)]
    assert list(echo.stream_stream(iter(requests))) == requests


def test_a_conversation(echo: BlockingEcho) -> None:
    """An iterator of requests may wait for responses: it is read in a thread of its own."""
    said: queue.Queue[bytes | None] = queue.Queue()
    call = echo.stream_stream(iter(lambda: said.get(timeout=SECONDS), None))
    for message in (b"a", b"b", b"c"):
        said.put(message)
        assert next(call) == message
    said.put(None)
    assert list(call) == []


def test_no_requests(echo: BlockingEcho) -> None:
    """A stream of requests may be empty."""
    assert echo.stream_unary(iter([])) == b""
    assert list(echo.stream_stream(iter([]))) == []


def test_serializers(channel: grpc.Channel) -> None:
    """Requests and responses pass through the serializers of the method, in all kinds."""
    both: Any = (str.encode, bytes.decode)
    assert channel.unary_unary(UNARY_UNARY, *both)("ä") == "ä"
    assert list(channel.unary_stream(UNARY_STREAM, *both)("ö")) == ["ö"]
    assert channel.stream_unary(STREAM_UNARY, *both)(iter(["x", "y"])) == "x,y"
    assert list(channel.stream_stream(STREAM_STREAM, *both)(iter(["ü", "ß"]))) == ["ü", "ß"]


# Arguments


def test_metadata(echo: BlockingEcho) -> None:
    """Metadata goes both ways, and has keys and values."""
    response, call = echo.unary_unary.with_call(b"metadata key", metadata=(("key", "sent"),))
    assert response == b"sent"
    assert {entry.key: entry.value for entry in call.initial_metadata()}["initial"] == "yes"  # type: ignore[attr-defined]
    assert dict(call.trailing_metadata())["trailing"] == "yes"


def test_initial_metadata_comes_before_the_end(echo: BlockingEcho) -> None:
    """Asking a stream for its initial metadata waits for that, and not for its end."""
    said: queue.Queue[bytes | None] = queue.Queue()
    call = echo.stream_stream(iter(lambda: said.get(timeout=SECONDS), None))
    said.put(b"metadata key")
    assert dict(call.initial_metadata())["initial"] == "yes"
    assert call.is_active()
    said.put(None)
    assert list(call) == [b"None"]


def test_the_deadline_is_exact(echo: BlockingEcho) -> None:
    """A call that takes too long ends at its deadline."""
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        echo.unary_unary(b"sleep 30", timeout=0.3)
    assert 0.29 <= time.monotonic() - started < 0.3 + 4  # a busy machine stands still for as long
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


@ours
@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_at_all(echo: BlockingEcho, timeout: float) -> None:
    """A deadline that is over already is exceeded (in grpc the call may be faster)."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.unary_unary(b"x", timeout=timeout)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


def test_the_deadline_of_a_stream(echo: BlockingEcho) -> None:
    """A stream ends at its deadline, with what came before."""
    call = echo.unary_stream(b"sleep 30", timeout=0.3)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


@direct
def test_time_remaining(echo: BlockingEcho) -> None:
    """It counts down from the timeout; without one there is none."""
    remaining = echo.unary_unary.future(b"x", timeout=60).time_remaining()
    assert 50 < remaining <= 60
    assert echo.unary_unary.future(b"x").time_remaining() is None


def test_compression_and_wait_for_ready(echo: BlockingEcho) -> None:
    """The other arguments are passed on."""
    request = b"a" * 10_000
    assert echo.unary_unary(request, compression=grpc.Compression.Gzip, wait_for_ready=True, timeout=SECONDS) == request


def test_call_credentials_need_tls(echo: BlockingEcho) -> None:
    """Credentials are not sent in plain text."""
    credentials = grpc.access_token_call_credentials("secret")
    with pytest.raises(grpc.RpcError) as caught:
        echo.unary_unary(b"x", credentials=credentials)
    assert caught.value.code() is StatusCode.UNAUTHENTICATED


# How a call ends


def test_an_error_of_the_server(echo: BlockingEcho) -> None:
    """What is raised is the error and the call."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.unary_unary(b"fail NOT_FOUND no such thing")
    error: Any = caught.value
    assert isinstance(error, grpc.Call)
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "no such thing")
    assert dict(error.trailing_metadata())["trailing"] == "failed"
    assert isinstance(error.initial_metadata(), tuple)
    assert "no such thing" in error.debug_error_string()  # type: ignore[attr-defined]
    assert "StatusCode.NOT_FOUND" in str(error)


def test_an_error_in_a_future(echo: BlockingEcho) -> None:
    """A future raises its error, and tells of it."""
    future = echo.unary_unary.future(b"fail ABORTED try again")
    error = future.exception(SECONDS)
    assert isinstance(error, grpc.RpcError)
    assert error.code() is future.code() is StatusCode.ABORTED
    assert future.details() == "try again"
    assert future.traceback() is not None
    with pytest.raises(grpc.RpcError):
        future.result()


def test_an_error_in_a_stream(echo: BlockingEcho) -> None:
    """A stream's error is raised to who iterates it, again and again, and the call tells of it."""
    call = echo.unary_stream(b"fail ABORTED try again")
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is StatusCode.ABORTED
    assert call.code() is StatusCode.ABORTED
    assert call.details() == "try again"
    assert dict(call.trailing_metadata())["trailing"] == "failed"


def test_unknown_method(channel: grpc.Channel) -> None:
    """A method that the server lacks is UNIMPLEMENTED."""
    missing: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/None")
    with pytest.raises(grpc.RpcError) as caught:
        missing(b"x")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


@ours
def test_an_error_can_be_pickled(echo: BlockingEcho) -> None:
    """It reaches another process, as Celery sends it, whole (grpc's own does not)."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.unary_unary(b"fail NOT_FOUND no such thing")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (copy.code(), copy.details()) == (StatusCode.NOT_FOUND, "no such thing")
    assert copy.trailing_metadata() == caught.value.trailing_metadata()


def test_states_of_a_future(echo: BlockingEcho, server: ServerElsewhere) -> None:
    """It is running, then done; `result` waits no longer than it is told."""
    let_go, answer = threading.Event(), server.inside._answer

    async def held(request: bytes, context: Any) -> bytes:
        await asyncio.to_thread(let_go.wait, SECONDS)
        return await answer(request, context)

    server.inside._answer = held  # type: ignore[method-assign]
    future = echo.unary_unary.future(b"x")
    assert future.running()
    assert not future.done()
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(grpc.FutureTimeoutError):
        future.exception(timeout=0)
    let_go.set()
    assert future.result(SECONDS) == b"x"
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.exception() is None
    assert future.traceback() is None
    assert not future.cancel()


def test_done_callbacks(echo: BlockingEcho) -> None:
    """A done callback is called with the future, whenever it is added."""
    done: queue.Queue[Any] = queue.Queue()
    future = echo.unary_unary.future(b"sleep 0.1")
    future.add_done_callback(done.put)
    assert done.get(timeout=SECONDS) is future
    future.add_done_callback(done.put)
    assert done.get(timeout=SECONDS) is future


def test_callbacks_of_a_stream(echo: BlockingEcho) -> None:
    """A callback is called at the end; after that it is refused."""
    ended = threading.Event()
    call = echo.unary_stream(b"repeat 3")
    call.add_callback(ended.set)
    list(call)
    assert ended.wait(SECONDS)
    assert call.add_callback(ended.set) is False
    assert not call.is_active()


@ours
def test_a_callback_may_block_and_call(echo: BlockingEcho) -> None:
    """A callback may make a blocking call (in grpc it would stop its channel for ever)."""
    answers: queue.Queue[bytes] = queue.Queue()
    future = echo.unary_unary.future(b"x")
    future.add_done_callback(lambda _: answers.put(echo.unary_unary(b"from the callback", timeout=SECONDS)))
    assert answers.get(timeout=SECONDS) == b"from the callback"


# Cancellation


def test_a_cancelled_future(echo: BlockingEcho, server: ServerElsewhere) -> None:
    """Cancelling a future cancels the call at the server."""
    future = echo.unary_unary.future(b"sleep 30")
    server.until(lambda server: server.running == 1)
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert future.code() is StatusCode.CANCELLED
    for ask in (future.result, future.exception, future.traceback):
        with pytest.raises(grpc.FutureCancelledError):
            ask()
    assert not future.cancel()
    server.until(lambda server: server.cancelled == 1)


def test_a_cancelled_stream(echo: BlockingEcho, server: ServerElsewhere) -> None:
    """Cancelling a stream ends it for its reader, and at the server."""
    call = echo.unary_stream(b"repeat 1000000000")
    next(call)
    assert call.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is StatusCode.CANCELLED
    assert call.details() == "Locally cancelled by application!"
    server.until(lambda server: server.running == 0)


def test_cancelled_while_another_thread_reads(echo: BlockingEcho) -> None:
    """A reader that waits in another thread is let go."""
    call = echo.unary_stream(b"sleep 30")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(next, call)
        time.sleep(0.1)
        call.cancel()
        with pytest.raises(grpc.RpcError):
            reading.result(SECONDS)


def test_an_abandoned_stream_is_cancelled(echo: BlockingEcho, server: ServerElsewhere) -> None:
    """A stream that nobody holds any more ends at the server."""
    for _ in echo.unary_stream(b"repeat 1000000000"):
        break
    gc.collect()
    server.until(lambda server: server.running == 0)


def test_an_abandoned_future_is_cancelled(echo: BlockingEcho, server: ServerElsewhere) -> None:
    """So is a future."""
    future = echo.unary_unary.future(b"sleep 30")
    server.until(lambda server: server.running == 1)
    del future
    gc.collect()
    server.until(lambda server: server.cancelled == 1)


# Streams


def test_responses_are_not_received_without_end(echo: BlockingEcho, server: ServerElsewhere) -> None:
    """A reader that does not read stops the server."""
    sent = 0
    answer = server.inside._answer

    async def count(request: bytes, context: Any) -> bytes:
        nonlocal sent
        sent += 1
        await answer(request, context)
        return bytes(100_000)

    server.inside._answer = count  # type: ignore[method-assign]
    call = echo.unary_stream(b"repeat 10000")
    next(call)
    before = -1
    while before != sent:  # until no more is sent for half a second
        before = sent
        time.sleep(0.5)
    assert sent < 500
    call.cancel()


def test_requests_are_not_read_without_end(echo: BlockingEcho) -> None:
    """A server that does not read stops the iterator."""
    taken = 0

    def requests() -> Iterator[bytes]:
        nonlocal taken
        yield b"sleep 30"
        while True:
            taken += 1
            yield bytes(100_000)

    call = echo.stream_stream(requests())
    before = -1
    while before != taken:
        before = taken
        time.sleep(0.5)
    assert taken < 500
    call.cancel()


def test_requests_that_fail_end_the_call(echo: BlockingEcho) -> None:
    """An exception in the caller's iterator is UNKNOWN, and logged."""

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    with pytest.raises(grpc.RpcError) as caught:
        echo.stream_unary(broken())
    assert caught.value.code() is StatusCode.UNKNOWN
    assert str(caught.value.details()).startswith("Exception iterating requests!")


def test_a_call_that_ends_leaves_its_requests(echo: BlockingEcho) -> None:
    """Requests are no longer taken when the server has answered."""
    released = threading.Event()

    def requests() -> Iterator[bytes]:
        try:
            yield b"fail ABORTED enough"
            while True:
                time.sleep(0.01)
                yield b"x"
        finally:
            released.set()

    with pytest.raises(grpc.RpcError, match="enough"):
        echo.stream_unary(requests(), timeout=SECONDS)
    late = time.monotonic() + SECONDS
    while not released.wait(0.05):
        gc.collect()
        assert time.monotonic() < late


# Bad input


def test_what_cannot_be_serialized(channel: grpc.Channel, server: ServerElsewhere) -> None:
    """A serializer that fails is INTERNAL, and nothing is sent."""

    def fail(request: object) -> bytes:
        raise TypeError("not serializable")

    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNARY_UNARY, fail)(object())
    assert caught.value.code() is StatusCode.INTERNAL
    assert str(caught.value.details()).startswith("Exception serializing request!")
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(STREAM_UNARY, fail)(iter([object()]))
    assert caught.value.code() is StatusCode.INTERNAL
    assert not server.inside.calls["unary_unary"]


def test_what_cannot_be_deserialized(channel: grpc.Channel) -> None:
    """A deserializer that fails is INTERNAL."""

    def fail(response: bytes) -> object:
        raise ValueError("truncated")

    unary: Any = channel.unary_unary(UNARY_UNARY, None, fail)
    with pytest.raises(grpc.RpcError) as caught:
        unary(b"x")
    assert caught.value.code() is StatusCode.INTERNAL
    stream: Any = channel.unary_stream(UNARY_STREAM, None, fail)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream(b"x"))
    assert caught.value.code() is StatusCode.INTERNAL


@pytest.mark.parametrize("metadata", [(("Bad Key", "x"),), (("key", 1),)])
def test_bad_metadata_is_refused(echo: BlockingEcho, metadata: Any) -> None:
    """Metadata that cannot be sent fails the call, and leaves nothing behind."""
    with pytest.raises((ValueError, TypeError, grpc.RpcError)):
        echo.unary_unary(b"x", metadata=metadata, timeout=SECONDS)
    assert echo.unary_unary(b"x") == b"x"


# Threads


def test_many_threads_at_once(echo: BlockingEcho) -> None:
    """A channel and its methods are for any number of threads."""

    def call(number: int) -> bool:
        request = str(number).encode()
        alone = echo.unary_unary(request, timeout=SECONDS) == request
        return alone and list(echo.stream_stream(iter([request] * 3), timeout=SECONDS)) == [request] * 3

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(200)))


def test_a_future_may_be_waited_for_by_many(echo: BlockingEcho) -> None:
    """Every thread that waits for a future gets its result."""
    future = echo.unary_unary.future(b"sleep 0.2")
    with ThreadPoolExecutor(8) as pool:
        assert {waiting.result(SECONDS) for waiting in [pool.submit(future.result) for _ in range(8)]} == {b"sleep 0.2"}


# The channel


def test_channel_ready_future(make: Make) -> None:
    """grpc's own way to wait for a channel works."""
    with make() as channel:
        grpc.channel_ready_future(channel).result(SECONDS)
        at_rest(channel)


def test_subscriptions(make: Make, server: ServerElsewhere) -> None:
    """Who subscribed is told the state, then of each change, until it unsubscribes."""
    states: queue.Queue[ChannelConnectivity] = queue.Queue()
    with make() as channel:
        channel.subscribe(states.put, try_to_connect=True)
        seen = []
        while ChannelConnectivity.READY not in seen:
            seen.append(states.get(timeout=SECONDS))
        server.stop()
        assert states.get(timeout=SECONDS) is not ChannelConnectivity.READY
        channel.unsubscribe(states.put)
        channel.unsubscribe(states.put)
        at_rest(channel)


def test_a_closed_channel_refuses_calls(make: Make) -> None:
    """Calls on a closed channel raise; closing again does nothing."""
    channel = make()
    method = BlockingEcho(channel).unary_unary
    assert method(b"x") == b"x"
    channel.close()
    channel.close()
    with pytest.raises(ValueError, match="closed channel"):
        method(b"x")


def test_closing_ends_what_is_in_flight(make: Make, server: ServerElsewhere) -> None:
    """Calls in progress are cancelled, there and here."""
    channel = make()
    echo = BlockingEcho(channel)
    future, stream = echo.unary_unary.future(b"sleep 30"), echo.unary_stream(b"sleep 30")
    server.until(lambda server: server.running == 2)
    channel.close()
    assert future.code() is StatusCode.CANCELLED
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is StatusCode.CANCELLED
    assert caught.value.details() == "Channel closed!"
    server.until(lambda server: server.cancelled == 2)
