"""Statuses stay small enough for HTTP/2 trailers, whatever a request made them of."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2 as rpc
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.errors import InvalidArgument, NotFound
from shop_services.runtime.status import MAX_DETAILS, MAX_MESSAGE, make_status, status_of


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
