"""Each call has a context, and one line in the log."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from time import monotonic
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from structlog.testing import capture_logs

from shop_services.runtime import errors
from shop_services.runtime.access import Access
from shop_services.runtime.boundary import ErrorBoundary
from shop_services.runtime.context import RequestContext, current
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.server import interceptors
from tests.unit.services.runtime.probe import Context, Ends, Hanging, echo, failure, probing, text

INTERCEPTORS = interceptors(Authority.in_memory("probe"))


def _lines(log: StringIO) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "rpc"]


async def _context_of(request: StringValue, _context: Context) -> StringValue:
    serving = current()
    assert serving is not None
    left = serving.remaining()
    return text(json.dumps([serving.request_id, serving.method, left and round(left)]))


async def test_the_callers_request_id_is_kept_and_returned(log: StringIO) -> None:
    """The id in `x-request-id` is the context's, the log's, and comes back as trailing metadata."""
    async with probing(INTERCEPTORS, UnaryUnary=_context_of) as probe:
        call = probe.call("UnaryUnary")(text(""), metadata=(("x-request-id", "abc-1"),), timeout=30)
        *named, left = json.loads((await call).value)
        assert named == ["abc-1", "/probe.Probe/UnaryUnary"]
        assert 0 < left <= 30
        assert (await call.trailing_metadata())["x-request-id"] == "abc-1"
    (line,) = _lines(log)
    assert (line["request_id"], line["method"], line["code"]) == ("abc-1", "/probe.Probe/UnaryUnary", "OK")


@pytest.mark.parametrize("sent", ["", "x" * 129, "two words", 'quo"te'])
async def test_an_odd_request_id_is_replaced(sent: str, log: StringIO) -> None:
    """An id that is empty, too long or not fit for a log gives way to a new one; so does none."""
    async with probing(INTERCEPTORS, UnaryUnary=_context_of) as probe:
        used = json.loads(await probe.unary_unary("", metadata=(("x-request-id", sent),)))
        made = json.loads(await probe.unary_unary(""))
    assert used[0] not in ("", sent)
    assert len(made[0]) == 16
    assert made[2] is None
    assert {line["request_id"] for line in _lines(log)} == {used[0], made[0]}


async def test_the_log_tells_how_each_call_ended(log: StringIO) -> None:
    """One line a call, with the code that the caller got; a defect is logged as an error."""
    failing: list[Exception] = [errors.NotFound("user", "1"), RuntimeError("oops")]

    async def servicer(_request: object, _context: Context) -> StringValue:
        raise failing.pop(0)

    ends = Ends()
    async with probing([ends, *INTERCEPTORS], UnaryUnary=servicer) as probe:
        await failure(probe.unary_unary(""))
        await failure(probe.unary_unary(""))
        await ends.wait(2)
    assert [(line["code"], line["level"]) for line in _lines(log)] == [("NOT_FOUND", "info"), ("INTERNAL", "error")]
    assert all(line["duration_ms"] >= 0 and line["peer"] for line in _lines(log))


async def test_a_code_set_by_the_servicer_is_the_one_logged(log: StringIO) -> None:
    """`context.set_code` is seen too."""

    async def servicer(request: StringValue, context: Context) -> StringValue:
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        return request

    async with probing(INTERCEPTORS, UnaryUnary=servicer) as probe:
        await failure(probe.unary_unary(""))
    assert [line["code"] for line in _lines(log)] == ["UNIMPLEMENTED"]


@pytest.mark.parametrize("patience", [None, 3600])
async def test_leaving_and_being_late_are_told_apart(patience: float | None) -> None:
    """A caller who cancels is logged as CANCELLED, one whose deadline passed as DEADLINE_EXCEEDED."""
    ends, hanging = Ends(), Hanging()
    access = Access(lambda: monotonic() + hanging.passed)
    with capture_logs() as entries:
        async with probing([ends, access, ErrorBoundary()], UnaryUnary=hanging.serve) as probe:
            call = probe.call("UnaryUnary")(text(""), timeout=patience)
            await hanging.asked.wait()
            call.cancel()
            await ends.wait()
            # The caller's word that its time is over may be here before the server's own timer ends, which began later.
            hanging.step = 20.0
            for seconds in (0.05, 0.5, 2, 10):  # one whose time is over before it arrives is nobody's to log
                late = await failure(probe.unary_unary("", timeout=seconds))
                assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                if ends.begun >= 2:  # perhaps more: one may arrive when its caller has gone, and the next one was tried
                    break
            await ends.wait()
    left, *late_ones = [entry["code"] for entry in entries if entry["event"] == "rpc"]
    assert left == "CANCELLED"
    assert set(late_ones) == {"DEADLINE_EXCEEDED"}


@pytest.mark.parametrize(("elapsed", "code"), [(3590, "DEADLINE_EXCEEDED"), (3550, "CANCELLED")])
async def test_a_deadline_that_was_rounded_up_is_no_cancellation(elapsed: float, code: str) -> None:
    """gRPC tells the server up to 1% more time than the caller has, whose end reaches it as a cancellation."""
    ends, hanging = Ends(), Hanging(elapsed)
    access = Access(lambda: hanging.passed)
    with capture_logs() as entries:
        async with probing([ends, access, ErrorBoundary()], UnaryUnary=hanging.serve) as probe:
            call = probe.call("UnaryUnary")(text(""), timeout=3600)
            await hanging.asked.wait()
            call.cancel()
            await ends.wait()
    assert [entry["code"] for entry in entries if entry["event"] == "rpc"] == [code]


async def test_calls_do_not_see_each_others_context() -> None:
    """Concurrent calls each have the context of their own."""
    together = asyncio.Barrier(2)

    async def servicer(_request: object, _context: Context) -> StringValue:
        await together.wait()
        serving = current()
        assert serving is not None
        return text(serving.request_id)

    async with probing([Access()], UnaryUnary=servicer) as probe:
        calls = (probe.unary_unary("", metadata=(("x-request-id", name),)) for name in ("one", "two"))
        assert await asyncio.gather(*calls) == ["one", "two"]
    assert current() is None


def test_the_time_left_is_never_negative() -> None:
    """After the deadline nothing is left."""
    serving = RequestContext("r", "/m", deadline=10.0)
    assert (serving.remaining(lambda: 7.5), serving.remaining(lambda: 11.0)) == (2.5, 0.0)
    assert RequestContext("r", "/m").remaining() is None


async def test_echo_needs_nothing(log: StringIO) -> None:
    """The interceptors of every server change nothing in a good call."""
    async with probing(INTERCEPTORS, UnaryUnary=echo) as probe:
        assert await probe.unary_unary("hello") == "hello"
