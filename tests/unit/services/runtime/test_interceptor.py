"""`CallInterceptor` is around every call, of every kind, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from shop_services.runtime.interceptor import CallInterceptor, ServedCall
from tests.unit.services.runtime.probe import Context, Probe, chat, echo, failure, join, probing, split, write_split


class Witness(CallInterceptor):
    """Notes what it sees."""

    def __init__(self, name: str = "", notes: list[str] | None = None) -> None:
        super().__init__()
        self.name = name
        self.notes: list[str] = [] if notes is None else notes
        self.left = asyncio.Event()

    @asynccontextmanager
    async def around(self, call: ServedCall) -> AsyncIterator[None]:
        self.notes.append(f"{self.name}begin {call.method}")
        try:
            yield
            self.notes.append(f"{self.name}end")
        except BaseException as error:
            self.notes.append(f"{self.name}{type(error).__name__}")
            raise
        finally:
            self.left.set()

    def check(self, request: Message) -> None:
        assert isinstance(request, StringValue)
        self.notes.append(f"{self.name}check {request.value}")


async def _all_kinds(probe: Probe) -> None:
    assert await probe.unary_unary("a") == "a"
    assert await probe.unary_stream("a b") == ["a", "b"]
    assert await probe.stream_unary(["a", "b"]) == "a b"
    assert await probe.stream_stream(["a", "b"]) == ["a", "b"]


async def test_it_is_around_all_four_kinds_and_checks_every_request_message() -> None:
    """Each call begins and ends once, and each message from the caller is checked once, before the servicer."""
    witness = Witness()
    async with probing([witness], UnaryUnary=echo, UnaryStream=split, StreamUnary=join, StreamStream=chat) as probe:
        await _all_kinds(probe)
    assert witness.notes == [
        *("begin /probe.Probe/UnaryUnary", "check a", "end"),
        *("begin /probe.Probe/UnaryStream", "check a b", "end"),
        *("begin /probe.Probe/StreamUnary", "check a", "check b", "end"),
        *("begin /probe.Probe/StreamStream", "check a", "check b", "end"),
    ]


async def test_a_handler_that_writes_its_responses_is_served_like_a_generator() -> None:
    """Both of grpc.aio's styles of streaming responses pass through."""
    async with probing([Witness()], UnaryStream=write_split) as probe:
        assert await probe.unary_stream("a b c") == ["a", "b", "c"]


async def test_interceptors_nest_in_their_order() -> None:
    """The first interceptor is the outermost, for unary calls and for streams."""
    notes: list[str] = []
    async with probing([Witness("1 ", notes), Witness("2 ", notes)], UnaryUnary=echo, UnaryStream=split) as probe:
        await probe.unary_unary("a")
        await probe.unary_stream("a")
    for kind in ("UnaryUnary", "UnaryStream"):
        assert notes[:6] == [
            *(f"1 begin /probe.Probe/{kind}", "1 check a"),
            *(f"2 begin /probe.Probe/{kind}", "2 check a", "2 end", "1 end"),
        ]
        del notes[:6]


@pytest.mark.parametrize("kind", ["UnaryStream", "StreamStream"])
async def test_a_caller_who_leaves_a_stream_ends_it_at_once(kind: str) -> None:
    """Cancelled while it waits, the servicer's generator is closed and `around` is left in the same task, promptly."""
    witness = Witness()
    closed_in: list[object] = []

    async def endless(request: object, _context: Context) -> AsyncIterator[StringValue]:
        task = asyncio.current_task()
        try:
            yield StringValue(value="first")
            await asyncio.Event().wait()
        finally:
            closed_in.append(asyncio.current_task() is task)

    async with probing([witness], **{kind: endless}) as probe:
        argument = StringValue(value="a") if kind == "UnaryStream" else iter([StringValue(value="a")])
        call = probe.call(kind)(argument)
        assert (await call.read()).value == "first"
        call.cancel()
        async with asyncio.timeout(30):
            await witness.left.wait()
    assert witness.notes[-1] == "CancelledError"
    assert closed_in == [True]


async def test_what_the_servicer_raises_passes_through_around() -> None:
    """`around` sees the servicer's own exception, and may replace it."""

    class Refusing(CallInterceptor):
        @asynccontextmanager
        async def around(self, call: ServedCall) -> AsyncIterator[None]:
            try:
                yield
            except LookupError as error:
                await call.context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    async def missing(_request: object, _context: Context) -> StringValue:
        raise LookupError("no such thing")

    async with probing([Refusing()], UnaryUnary=missing) as probe:
        error = await failure(probe.unary_unary("a"))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")


async def test_an_unknown_method_stays_unimplemented() -> None:
    """A method that nobody serves is answered by gRPC itself."""
    witness = Witness()
    async with probing([witness], UnaryUnary=echo) as probe:
        error = await failure(probe.unary_stream("a"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert witness.notes == []
