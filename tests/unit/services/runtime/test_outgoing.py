"""Outgoing calls inherit the id and the deadline of the call that they are made for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from shop_services.runtime.access import Access
from shop_services.runtime.boundary import ErrorBoundary
from shop_services.runtime.outgoing import DEFAULT_TIMEOUT, OutgoingChannel
from tests.unit.services.runtime.probe import Context, Probe, failure, probing, text

KINDS = ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"]


def _seen(context: Context) -> StringValue:
    metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
    left: float | None = context.time_remaining()
    return text(f"{metadata.get('x-request-id')} {None if left is None else round(left)} {metadata.get('x-own')}")


def _left(seen: str) -> int:
    """The seconds that the other saw to be left. They are fewer than were given, on a machine that is busy by some."""
    return int(seen.split()[1])


async def _one(_request: object, context: Context) -> StringValue:
    return _seen(context)


async def _stream(_request: object, context: Context) -> AsyncIterator[StringValue]:
    yield _seen(context)


@asynccontextmanager
async def _through(kind: str, **options: Any) -> AsyncIterator[Probe]:
    """A service whose UnaryUnary calls `kind` of another with `options`, and answers what that other saw."""
    async with probing([], UnaryUnary=_one, UnaryStream=_stream, StreamUnary=_one, StreamStream=_stream) as inner:
        outgoing = OutgoingChannel(inner.channel)

        async def middle(_request: object, _context: Context) -> StringValue:
            argument = text("") if kind.startswith("Unary") else iter([text("")])
            call = inner.call(kind, outgoing)(argument, **options)
            if kind.endswith("Unary"):
                return StringValue(value=(await call).value)
            (only,) = [response async for response in call]
            return StringValue(value=only.value)

        async with probing([Access(), ErrorBoundary()], UnaryUnary=middle) as probe:
            yield probe


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_carries_the_id_and_the_deadline(kind: str) -> None:
    """What the other sees is the caller's request id, and what is left of the caller's time."""
    async with _through(kind) as probe:
        seen = await probe.unary_unary("", metadata=(("x-request-id", "r-7"),), timeout=40)
    assert seen == f"r-7 {_left(seen)} None"
    assert DEFAULT_TIMEOUT < _left(seen) <= 40


@pytest.mark.parametrize("kind", KINDS)
async def test_the_smaller_deadline_wins_and_own_metadata_stays(kind: str) -> None:
    """A timeout given to the call can only make it shorter."""
    async with _through(kind, timeout=20, metadata=(("x-own", "1"),)) as probe:
        seen = await probe.unary_unary("", metadata=(("x-request-id", "r"),), timeout=60)
    assert seen == f"r {_left(seen)} 1"
    assert DEFAULT_TIMEOUT < _left(seen) <= 20
    async with _through(kind, timeout=90) as probe:
        seen = await probe.unary_unary("", metadata=(("x-request-id", "r"),), timeout=60)
    assert seen == f"r {_left(seen)} None"
    assert 20 < _left(seen) <= 60


async def test_without_any_deadline_a_single_response_is_waited_for_five_seconds() -> None:
    """A call with one response gets the default; a stream, which may be meant to last, gets none."""
    async with _through("UnaryUnary") as probe:
        assert 0 <= _left(await probe.unary_unary("")) <= DEFAULT_TIMEOUT == 5
    async with _through("UnaryStream") as probe:
        assert (await probe.unary_unary("")).split()[1] == "None"


async def test_outside_of_a_call_nothing_is_added_but_the_default() -> None:
    """A worker's calls have no request to speak of."""
    async with probing([], UnaryUnary=_one) as inner, OutgoingChannel(inner.channel, default_timeout=20) as outgoing:
        seen = (await inner.call("UnaryUnary", outgoing)(text(""))).value
    assert seen == f"None {_left(seen)} None"
    assert DEFAULT_TIMEOUT < _left(seen) <= 20


async def test_an_id_given_to_the_call_is_kept() -> None:
    """Explicit metadata is stronger."""
    async with _through("UnaryUnary", metadata=(("x-request-id", "mine"),)) as probe:
        assert (await probe.unary_unary("", metadata=(("x-request-id", "r"),))).split()[0] == "mine"


async def _sender(_request: object, context: Context) -> StringValue:
    return text(" ".join(str(value) for key, value in context.invocation_metadata() or () if key == "authorization"))


async def test_a_call_says_who_makes_it() -> None:
    """What the credentials say at that moment goes along, beside the metadata of the call; a call may say it itself."""
    said = iter(["one", "two", "three"])
    async with probing([], UnaryUnary=_sender) as inner:
        outgoing = OutgoingChannel(inner.channel, credentials=lambda: [("authorization", next(said))])
        call = inner.call("UnaryUnary", outgoing)
        assert (await call(text(""))).value == "one"
        assert (await call(text(""), metadata=(("x-own", "1"),))).value == "two"
        assert (await call(text(""), metadata=(("authorization", "mine"),))).value == "mine"


async def test_no_token_of_a_caller_is_passed_on() -> None:
    """A service calls in its own name, or in nobody's."""
    async with probing([], UnaryUnary=_sender) as inner:
        outgoing = OutgoingChannel(inner.channel)

        async def middle(_request: object, _context: Context) -> StringValue:
            return StringValue(value=(await inner.call("UnaryUnary", outgoing)(text(""))).value)

        async with probing([Access(), ErrorBoundary()], UnaryUnary=middle) as probe:
            assert await probe.unary_unary("", metadata=(("authorization", "Bearer theirs"),)) == ""


async def test_a_call_made_too_late_ends_the_caller_with_deadline_exceeded() -> None:
    """When the inner call runs out of the inherited time, the outer one is late too."""

    async def never(requests: AsyncIterator[StringValue], _context: Context) -> StringValue:
        async for _ in requests:
            raise AssertionError
        return text("")

    async with probing([], StreamUnary=never) as inner:
        outgoing = OutgoingChannel(inner.channel)

        async def middle(_request: object, _context: Context) -> StringValue:
            return StringValue(value=(await inner.call("StreamUnary", outgoing)()).value)

        async with probing([Access(), ErrorBoundary()], UnaryUnary=middle) as probe:
            error = await failure(probe.unary_unary("", timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_it_is_a_channel_like_the_one_inside() -> None:
    """State, readiness and closing are those of the channel inside."""
    async with probing([], UnaryUnary=_one) as inner:
        outgoing = OutgoingChannel(inner.channel)
        await outgoing.channel_ready()
        assert outgoing.get_state() is grpc.ChannelConnectivity.READY
        await outgoing.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        await outgoing.close()
        assert inner.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
