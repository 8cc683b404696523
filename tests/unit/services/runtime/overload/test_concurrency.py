"""A server that has too much to do says so before it does anything."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from random import Random

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry, generate_latest

from shop_services.runtime.boundary import ErrorBoundary
from shop_services.runtime.overload import Bounds, Concurrency, ConcurrencyLimit, LimitCounts, telling
from shop_services.runtime.status import info_of
from tests.unit.services.runtime.probe import Context, echo, probing, text

ONE = Bounds(least=1, first=1, most=1)


class Held:
    """A servicer whose calls go on until they are let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, _request: StringValue, _context: Context) -> StringValue:
        self.began.set()
        await self.go.wait()
        return text("done")


async def test_what_is_too_much_is_refused_with_a_pushback(log: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE, a reason, when to come back; the next call is served as soon as there is room again."""
    monkeypatch.setattr(telling, "EVERY", 3600.0)  # no second line, however long this takes
    concurrency, held = Concurrency(ConcurrencyLimit(ONE), rng=Random(1)), Held()
    async with probing([concurrency, ErrorBoundary()], UnaryUnary=held) as probe:
        first = asyncio.ensure_future(probe.unary_unary(""))
        async with asyncio.timeout(10):
            await held.began.wait()
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await probe.unary_unary("")
            error = caught.value
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert info_of(error).reason == "OVERLOADED"
            trailers = dict(error.trailing_metadata())
            pushback = trailers["grpc-retry-pushback-ms"]
            assert isinstance(pushback, str)
            assert 100 <= int(pushback) <= 300
        held.go.set()
        assert await first == "done"
        assert await probe.unary_unary("") == "done"
    assert (concurrency.limit.admitted, concurrency.limit.refused, concurrency.limit.in_progress) == (2, 3, 0)
    assert _told(log) == [1]  # not one for each
    concurrency.close()
    assert _told(log) == [1, 2]
    concurrency.close()
    assert _told(log) == [1, 2]


def _told(log: StringIO) -> list[int]:
    """How many refusals each line tells of."""
    lines = map(json.loads, log.getvalue().splitlines())
    return [line["refused"] for line in lines if line["event"] == "overloaded"]


async def test_a_place_is_free_again_however_a_call_ends() -> None:
    """After an error, a defect, a caller that left, and a deadline, nothing is in progress."""
    # Room for all four: a call that has failed gives its place back when its answer is away, which may be seen before.
    concurrency, held = Concurrency(ConcurrencyLimit(Bounds(least=4, first=4, most=4))), Held()
    failing = [RuntimeError("oops"), ValueError("oops")]

    async def servicer(request: StringValue, context: Context) -> StringValue:
        if request.value == "fail":
            raise failing.pop()
        return await held(request, context)

    async with probing([concurrency, ErrorBoundary()], UnaryUnary=servicer, StreamStream=nothing) as probe:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
                await probe.unary_unary("fail")
        left = asyncio.ensure_future(probe.unary_unary(""))
        async with asyncio.timeout(10):
            await held.began.wait()
        left.cancel()
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
            await probe.call("UnaryUnary")(text(""), timeout=0.2)
        async with asyncio.timeout(10):
            while concurrency.limit.in_progress:  # the server hears of it over the network
                await probe.call("StreamStream")(iter(())).code()
    assert concurrency.limit.refused == 0


async def nothing(_requests: object, _context: Context) -> None:
    """A stream without an answer."""


async def test_streams_are_bounded_apart() -> None:
    """Streams that wait take no place from calls, and are refused beyond a number of their own."""
    concurrency, began, go = Concurrency(ConcurrencyLimit(ONE), streams=2), asyncio.Semaphore(0), asyncio.Event()

    async def waiting(_request: StringValue, context: Context) -> None:
        began.release()
        await go.wait()
        await context.write(text("end"))

    async with probing([concurrency], UnaryUnary=echo, UnaryStream=waiting) as probe:
        streams = [probe.call("UnaryStream")(text("")) for _ in range(2)]
        tasks = [asyncio.ensure_future(stream.read()) for stream in streams]
        async with asyncio.timeout(10):
            for _ in streams:
                await began.acquire()
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await probe.call("UnaryStream")(text("")).read()
        assert await probe.unary_unary("x") == "x"
        text_of = generate_latest(_registry(concurrency)).decode()
        assert "shop_server_concurrency_streams 2.0" in text_of
        assert 'shop_server_concurrency_calls_total{outcome="refused"} 1.0' in text_of
        go.set()
        assert [answer.value for answer in await asyncio.gather(*tasks)] == ["end", "end"]
        for stream in streams:
            assert await stream.code() is grpc.StatusCode.OK
    assert concurrency.streams == 0


def _registry(concurrency: Concurrency) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(LimitCounts(concurrency.limit, lambda: concurrency.streams))
    return registry
