"""Deadlines inherited over real servers: first → second → third, of which each calls the next while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from grpc_balancer import Channel, deadlines, sync
from grpc_balancer.deadlines import BlockingDeadlineInterceptor, DeadlineInterceptor
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
Call = Callable[..., Any]


def about(seconds: float) -> Any:
    """What is left of that, a moment later; on the wire, gRPC rounds up to two or three digits."""
    return pytest.approx(seconds, abs=4.9)


class Handlers(grpc.GenericRpcHandler):
    """Serves `/test/{kind}` for all four kinds with one function each."""

    def __init__(self, **behaviours: Call) -> None:
        self._behaviours = behaviours
        self.served = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        kind = handler_call_details.method.rpartition("/")[2]
        if kind not in self._behaviours:
            return None
        self.served += 1
        return getattr(grpc, f"{kind}_rpc_method_handler")(self._behaviours[kind])


def resolver_to(port: int) -> ManualResolver:
    resolver = ManualResolver()
    resolver.push(Snapshot("next", 1, (Instance("next", f"127.0.0.1:{port}"),)))
    return resolver


@asynccontextmanager
async def serving(handlers: Handlers, interceptors: Sequence[Any] = ()) -> AsyncIterator[Channel]:
    """A server of `handlers`, and a balanced channel to it."""
    server = grpc.aio.server(interceptors=[DeadlineInterceptor(), *interceptors])
    server.add_generic_rpc_handlers([handlers])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Channel("next", resolver_to(port)) as channel:
        await channel.channel_ready()
        yield channel
    await server.stop(None)


@contextlib.contextmanager
def serving_blocking(handlers: Handlers) -> Iterator[int]:
    """A blocking server of `handlers`; its port."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[BlockingDeadlineInterceptor()])
        server.add_generic_rpc_handlers([handlers])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait(10)


async def ask(channel: grpc.aio.Channel, kind: str = "unary_unary", **arguments: Any) -> float:
    """Call, and return the number that is answered."""
    request: Any = b"" if kind.startswith("unary") else iter([b""])
    call = getattr(channel, kind)(f"/test/{kind}")(request, **arguments)
    if kind.endswith("unary"):
        return float(await call)
    return [float(response) async for response in call][-1]


def _left(context: Any) -> bytes:
    left = context.time_remaining()
    return repr(-1.0 if left is None or left > 1e9 else left).encode()


def telling() -> Handlers:
    """Answers with what is left of the call's time, -1 for a call without a deadline."""

    async def one(_: Any, context: Any) -> bytes:
        return _left(context)

    async def many(_: Any, context: Any) -> AsyncIterator[bytes]:
        yield _left(context)

    return Handlers(unary_unary=one, unary_stream=many, stream_unary=one, stream_stream=many)


def passing_on(channel: grpc.aio.Channel, **arguments: Any) -> Handlers:
    """Answers what the next one answers, each kind by a call of the same kind."""

    async def of(kind: str) -> bytes:
        return repr(await ask(channel, kind, **arguments)).encode()

    async def unary_unary(_: Any, __: Any) -> bytes:
        return await of("unary_unary")

    async def stream_unary(_: Any, __: Any) -> bytes:
        return await of("stream_unary")

    async def unary_stream(_: Any, __: Any) -> AsyncIterator[bytes]:
        yield await of("unary_stream")

    async def stream_stream(_: Any, context: Any) -> None:  # the other way in which grpc.aio lets one stream
        await context.write(await of("stream_stream"))

    return Handlers(
        unary_unary=unary_unary, unary_stream=unary_stream, stream_unary=stream_unary, stream_stream=stream_stream
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_the_third_server_sees_the_first_ones_deadline(kind: str) -> None:
    """Through two servers that set no timeout of their own, a deadline arrives, for every kind of call."""
    async with (
        serving(telling()) as to_third,
        serving(passing_on(to_third)) as to_second,
        serving(passing_on(to_second)) as to_first,
    ):
        assert await ask(to_first, kind, timeout=40) == about(40)
        assert await ask(to_first, kind) == -1


async def test_the_shorter_deadline_wins() -> None:
    """A timeout that is longer than what is left is cut down to it; a shorter one is kept."""
    async with serving(telling()) as to_third:
        async with serving(passing_on(to_third, timeout=90)) as to_second:
            assert await ask(to_second, timeout=40) == about(40)
            assert await ask(to_second) == about(90)
        async with serving(passing_on(to_third, timeout=10)) as to_second:
            assert await ask(to_second, timeout=40) == about(10)


async def test_nothing_is_sent_after_the_deadline() -> None:
    """A call made when the caller's time is over fails at once, and the next server does not hear of it."""
    codes: asyncio.Queue[grpc.StatusCode] = asyncio.Queue()
    third = telling()
    async with serving(third) as to_third:

        async def too_late(_: Any, context: Any) -> bytes:
            async def later() -> None:
                await asyncio.sleep((deadlines.remaining() or 0) + 0.01)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(to_third)
                codes.put_nowait(caught.value.code())

            later_on.append(asyncio.create_task(later()))
            return b"0"

        later_on: list[asyncio.Task[None]] = []
        async with serving(Handlers(unary_unary=too_late)) as to_second:
            assert await ask(to_second, timeout=4) == 0
            async with asyncio.timeout(30):
                assert await codes.get() is grpc.StatusCode.DEADLINE_EXCEEDED
            await asyncio.gather(*later_on)
    assert third.served == 0


async def test_work_that_outlives_the_call() -> None:
    """What is started under `ignored` calls with the time that it wants."""
    answers: asyncio.Queue[float] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []
    async with serving(telling()) as to_third:

        async def background() -> None:
            answers.put_nowait(await ask(to_third, timeout=50))

        async def leaving_work(_: Any, __: Any) -> bytes:
            with deadlines.ignored():
                tasks.append(asyncio.create_task(background()))
            return b"0"

        async with serving(Handlers(unary_unary=leaving_work)) as to_second:
            await ask(to_second, timeout=30)
            async with asyncio.timeout(30):
                assert await answers.get() == about(50)
            await asyncio.gather(*tasks)


async def test_one_call_knows_nothing_of_another() -> None:
    """Calls that are served at the same time have each their own deadline."""
    async with serving(telling()) as to_second, serving(passing_on(to_second)) as to_first:
        timeouts = [10.0, 20.0, 30.0, 40.0] * 5
        seen = await asyncio.gather(*(ask(to_first, timeout=timeout) for timeout in timeouts))
    assert seen == [about(timeout) for timeout in timeouts]


async def test_plain_functions_on_an_asynchronous_server() -> None:
    """A blocking handler, which grpc.aio runs in a thread, sees the deadline as well."""

    def one(_: Any, __: Any) -> bytes:
        return repr(deadlines.remaining()).encode()

    def many(_: Any, __: Any) -> Iterator[bytes]:
        yield repr(deadlines.remaining()).encode()

    with ThreadPoolExecutor(2) as pool:
        server = grpc.aio.server(pool, interceptors=[DeadlineInterceptor()])
        server.add_generic_rpc_handlers([Handlers(unary_unary=one, unary_stream=many)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await ask(channel, "unary_unary", timeout=40) == about(40)
            assert await ask(channel, "unary_stream", timeout=40) == about(40)
        await server.stop(None)


async def test_unknown_methods_and_other_interceptors() -> None:
    """The interceptor passes on what has no handler, and stands beside others."""
    async with serving(telling(), [DeadlineInterceptor()]) as channel:
        missing: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/none")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await missing(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await ask(channel, timeout=40) == about(40)


@pytest.mark.parametrize("kind", KINDS)
def test_blocking_servers_and_channels(kind: str) -> None:
    """Through a blocking server and a blocking channel a deadline arrives as well, and stays with its call."""

    def telling_one(_: Any, context: Any) -> bytes:
        return _left(context)

    def telling_many(_: Any, context: Any) -> Iterator[bytes]:
        yield _left(context)

    with contextlib.ExitStack() as stack:
        third = Handlers(
            unary_unary=telling_one, unary_stream=telling_many, stream_unary=telling_one, stream_stream=telling_many
        )
        port = stack.enter_context(serving_blocking(third))
        channel = stack.enter_context(sync.Channel("next", lambda: resolver_to(port)))

        def passing_one(_: Any, __: Any) -> bytes:
            method: Any = channel.unary_unary("/test/unary_unary")
            response: bytes = method(b"", timeout=90)
            return response

        def passing_many(_: Any, __: Any) -> Iterator[bytes]:
            yield from channel.unary_stream("/test/unary_stream")(b"")

        second = Handlers(
            unary_unary=passing_one, unary_stream=passing_many, stream_unary=passing_one, stream_stream=passing_many
        )
        first = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{stack.enter_context(serving_blocking(second))}"))
        call = getattr(first, kind)(f"/test/{kind}")
        for timeout, seen in ((40.0, 40.0), (None, 90.0 if kind.endswith("unary") else -1.0)):
            answer = call(b"" if kind.startswith("unary") else iter([b""]), timeout=timeout)
            assert float(answer if kind.endswith("unary") else next(answer)) == about(seen)
        assert deadlines.remaining() is None


def test_a_blocking_call_without_any_time_left() -> None:
    """It fails at once, and is not sent."""
    third = Handlers(unary_unary=lambda _, context: b"")
    with serving_blocking(third) as port, sync.Channel("next", lambda: resolver_to(port)) as channel:
        grpc.channel_ready_future(channel).result(10)
        token = deadlines.serving_deadline.set(time.monotonic() - 1)
        try:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/test/unary_unary")(b"", timeout=5)
        finally:
            deadlines.serving_deadline.reset(token)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert third.served == 0
