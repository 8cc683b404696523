"""`ErrorBoundary` turns what servicers raise into statuses with google.rpc details."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2 as rpc
from grpc_status import rpc_status

from shop_services.runtime import errors
from shop_services.runtime.access import Access
from shop_services.runtime.boundary import ErrorBoundary
from tests.unit.services.runtime.probe import Context, Ends, failure, probing

M = TypeVar("M", bound=Message)


def _detail(error: grpc.aio.AioRpcError, kind: type[M]) -> M:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it needs code, details and trailing metadata
    assert status is not None
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {status.details}")


async def _raised(error: BaseException) -> grpc.aio.AioRpcError:
    async def servicer(_request: object, _context: Context) -> StringValue:
        raise error

    async with probing([Access(), ErrorBoundary()], UnaryUnary=servicer) as probe:
        return await failure(probe.unary_unary("a", metadata=(("x-request-id", "r-1"),), timeout=30))


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.NotFound("user", "u1"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        (errors.AlreadyExists("user", "email", "a@b.c"), grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"),
        (errors.InvalidArgument.of("name", "is empty"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (
            errors.FailedPrecondition("STOCK", "product/1", "none left", reason="OUT_OF_STOCK"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "OUT_OF_STOCK",
        ),
        (errors.Aborted("user", "u1"), grpc.StatusCode.ABORTED, "CONFLICT"),
        (errors.ResourceExhausted("logins", "too many"), grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
        (errors.Unauthenticated("who?"), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (errors.PermissionDenied("no"), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
        (errors.OutOfRange("gone"), grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE"),
        (errors.Unavailable("away"), grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
        (errors.DeadlineExceeded("late"), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    ],
)
async def test_each_domain_error_has_its_code_reason_and_request_id(
    error: errors.DomainError, code: grpc.StatusCode, reason: str
) -> None:
    """Callers get the error's code and message, an ErrorInfo with its reason, and the request's id."""
    status = await _raised(error)
    assert (status.code(), status.details()) == (code, error.message)
    info = _detail(status, rpc.ErrorInfo)
    assert (info.reason, info.domain) == (reason, "shop")
    assert _detail(status, rpc.RequestInfo).request_id == "r-1"


async def test_details_name_what_is_wrong() -> None:
    """Each kind of error carries the google.rpc message made for it."""
    fields = errors.InvalidArgument([("name", "is empty"), ("items[1].sku", "is unknown")])
    violations = _detail(await _raised(fields), rpc.BadRequest).field_violations
    assert [(v.field, v.description) for v in violations] == [("name", "is empty"), ("items[1].sku", "is unknown")]

    resource = _detail(await _raised(errors.NotFound("user", "u1")), rpc.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("user", "u1")

    taken = await _raised(errors.AlreadyExists("user", "email", "a@b.c"))
    assert [v.field for v in _detail(taken, rpc.BadRequest).field_violations] == ["email"]
    assert _detail(taken, rpc.ErrorInfo).metadata["field"] == "email"

    stock = _detail(
        await _raised(errors.FailedPrecondition("STOCK", "product/1", "none left")), rpc.PreconditionFailure
    ).violations[0]
    assert (stock.type, stock.subject, stock.description) == ("STOCK", "product/1", "none left")


@pytest.mark.parametrize(("error", "said"), [(errors.SharedOutage("away"), ["-1"]), (errors.Unavailable("away"), [])])
async def test_clients_are_told_not_to_retry_what_no_other_instance_can_do(
    error: errors.DomainError, said: list[str]
) -> None:
    """gRFC A6: a negative pushback ends a call's retries."""
    status = await _raised(error)
    assert status.code() is grpc.StatusCode.UNAVAILABLE
    assert [value for key, value in status.trailing_metadata() if key == "grpc-retry-pushback-ms"] == said


async def test_a_defect_is_internal_and_tells_only_the_request_id(log: StringIO) -> None:
    """The text of an unexpected exception is logged with its traceback, and never sent."""
    status = await _raised(RuntimeError("the secret is swordfish"))
    assert (status.code(), status.details()) == (grpc.StatusCode.INTERNAL, "internal error; request id r-1")
    assert "swordfish" not in str(status.trailing_metadata())
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (defect,) = [line for line in lines if line["event"] == "unhandled_exception"]
    assert "swordfish" in defect["exception"]
    assert (defect["request_id"], defect["level"]) == ("r-1", "error")


@pytest.mark.parametrize(
    ("outgoing", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED),
        (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL),
        (grpc.StatusCode.INTERNAL, grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_failed_call_to_another_service_is_not_passed_on_as_it_is(
    outgoing: grpc.StatusCode, code: grpc.StatusCode
) -> None:
    """Another service's failure becomes our own: away or late, or a defect, since its codes mean things of its own."""
    error = grpc.aio.AioRpcError(outgoing, grpc.aio.Metadata(), grpc.aio.Metadata(), "inner words")
    status = await _raised(error)
    assert status.code() is code
    assert "inner words" not in str(status.details())


async def test_something_cancelled_inside_does_not_leave_the_call_open() -> None:
    """A servicer that awaits a cancelled task fails with INTERNAL; its caller is not kept waiting."""
    status = await _raised(asyncio.CancelledError())
    assert status.code() is grpc.StatusCode.INTERNAL


async def test_a_stream_ends_with_the_status_after_what_it_sent() -> None:
    """An error in the middle of a stream keeps the messages before it."""

    async def servicer(_request: object, _context: Context) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        raise errors.NotFound("page", "2")

    async with probing([ErrorBoundary()], UnaryStream=servicer) as probe:
        call = probe.call("UnaryStream")(StringValue())
        assert (await call.read()).value == "first"
        error = await failure(call.read())
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_what_a_servicer_aborts_or_sends_itself_is_kept() -> None:
    """A servicer's own abort passes; its trailing metadata stays beside the status details."""

    async def aborting(_request: object, context: Context) -> Any:
        await context.abort(grpc.StatusCode.DATA_LOSS, "own words")

    async def adding(_request: object, context: Context) -> Any:
        context.set_trailing_metadata((*context.trailing_metadata(), ("x-own", "1")))
        raise errors.NotFound("user", "u1")

    async with probing([Access(), ErrorBoundary()], UnaryUnary=aborting) as probe:
        aborted = await failure(probe.unary_unary("a"))
    assert (aborted.code(), aborted.details()) == (grpc.StatusCode.DATA_LOSS, "own words")
    async with probing([Access(), ErrorBoundary()], UnaryUnary=adding) as probe:
        added = await failure(probe.unary_unary("a"))
    assert {"x-own", "x-request-id", "grpc-status-details-bin"} <= set(dict(added.trailing_metadata()))


async def test_an_error_after_the_caller_has_left_counts_as_cancelled(log: StringIO) -> None:
    """A servicer that fails when nobody is there to be told is no defect: the access log says CANCELLED."""
    entered = asyncio.Event()

    async def stubborn(_request: object, _context: Context) -> StringValue:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise errors.Unavailable("draining; watch again") from None
        raise AssertionError("unreachable")

    ends = Ends()
    async with probing([ends, Access(), ErrorBoundary()], UnaryUnary=stubborn) as probe, asyncio.timeout(30):
        call = probe.call("UnaryUnary")(StringValue(value="a"))
        await entered.wait()
        call.cancel()
        await ends.wait()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["code"] for line in lines if line["event"] == "rpc"] == ["CANCELLED"]
    assert not [line for line in lines if line["level"] == "error"]
