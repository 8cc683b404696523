"""Statuses stay small enough for HTTP/2 trailers, whatever a request made them of."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2 as rpc
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.errors import InvalidArgument, NotFound
from shop_services.runtime.status import DETAILS_KEY, MAX_DETAILS, MAX_MESSAGE, info_of, make_status, status_of


@given(st.lists(st.tuples(st.text(max_size=400), st.text(max_size=400)), min_size=1, max_size=200))
def test_a_status_never_outgrows_its_bounds(violations: list[tuple[str, str]]) -> None:
    """However many fields are wrong, and however long their paths, the status fits, and says that fields are wrong."""
    status = status_of(InvalidArgument(violations), "r" * 128)
    assert len(status.message) <= MAX_MESSAGE
    assert sum(detail.ByteSize() for detail in status.details) <= MAX_DETAILS + 300  # and the RequestInfo
    found = rpc.BadRequest()
    assert any(detail.Unpack(found) for detail in status.details)
    assert found.field_violations


def test_a_shortened_list_of_violations_says_how_many_are_left_out() -> None:
    """The last violation counts those that did not fit."""
    status = status_of(InvalidArgument((f"items[{i}].sku", "x" * 150) for i in range(100)), "r")
    found = rpc.BadRequest()
    assert any(detail.Unpack(found) for detail in status.details)
    *told, last = found.field_violations
    assert last.description == f"and {100 - len(told)} more"
    assert told[0].field == "items[0].sku"


def test_a_detail_that_does_not_fit_is_left_out() -> None:
    """Other details stay if one is too large."""
    status = make_status(grpc.StatusCode.NOT_FOUND, "gone", NotFound("user", "x" * 10_000).details(), "r")
    kinds = [detail.TypeName() for detail in status.details]
    assert kinds == ["google.rpc.RequestInfo", "google.rpc.ErrorInfo"]


def _failed(*trailers: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers))


def test_who_called_reads_the_reason_of_an_error() -> None:
    """The ErrorInfo that the server put into the status comes out at the caller, whatever else is in there."""
    sent = status_of(NotFound("user", "ann"), "r1").SerializeToString()
    info = info_of(_failed(("x-request-id", "r1"), (DETAILS_KEY, sent)))
    assert (info.reason, info.domain, dict(info.metadata)) == ("NOT_FOUND", "shop", {"kind": "user"})


def test_an_error_without_details_has_no_reason() -> None:
    """A status that is no message, has no ErrorInfo, or is not there gives an empty one."""
    bare = make_status(grpc.StatusCode.NOT_FOUND, "gone", [], "r1").SerializeToString()
    for trailers in ((), ((DETAILS_KEY, bare),), ((DETAILS_KEY, b"\xff"),)):
        assert info_of(_failed(*trailers)) == rpc.ErrorInfo()
