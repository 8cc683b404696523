from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from shop_services.gateway.errors import Refusal, failed_call, wrong_field
from shop_services.gateway.protojson import FieldError

GRPC_GATEWAY = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


def failed(code: grpc.StatusCode, message: str = "why", *trailers: tuple[str, Any]) -> Refusal:
    return failed_call(AioRpcError(code, Metadata(), Metadata(*trailers), details=message))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_statuses_are_mapped_as_grpc_gateway_maps_them(code: grpc.StatusCode) -> None:
    """Every code has grpc-gateway's HTTP status, and its number in the body."""
    refusal = failed(code)
    assert refusal.http_status == GRPC_GATEWAY[code.name]
    assert json.loads(refusal.body()) == {"code": code.value[0], "message": "why", "details": []}


def status_with(*details: any_pb2.Any, code: int = 9) -> bytes:
    return status_pb2.Status(code=code, message="full message", details=details).SerializeToString()


def test_details_are_kept() -> None:
    """The google.rpc.Status in the trailers is the body, known and unknown details alike."""
    known, unknown = any_pb2.Any(), any_pb2.Any(type_url="type.googleapis.com/nobody.Knows", value=b"\x01")
    violation = error_details_pb2.PreconditionFailure.Violation(type="STOCK", subject="product/1", description="none")
    known.Pack(error_details_pb2.PreconditionFailure(violations=[violation]))
    trailers = ("grpc-status-details-bin", status_with(known, unknown))
    assert json.loads(failed(grpc.StatusCode.FAILED_PRECONDITION, "short", trailers).body()) == {
        "code": 9,
        "message": "full message",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
                "violations": [{"type": "STOCK", "subject": "product/1", "description": "none"}],
            },
            {"@type": "type.googleapis.com/nobody.Knows", "value": "AQ=="},
        ],
    }


@pytest.mark.parametrize("value", [b"\xff\xff", status_with(code=5)])
def test_details_that_cannot_be_used_leave_code_and_message(value: bytes) -> None:
    """Bytes that are no Status, and a Status of another code, do not hide the error."""
    refusal = failed(grpc.StatusCode.ABORTED, "why", ("grpc-status-details-bin", value))
    assert json.loads(refusal.body()) == {"code": 10, "message": "why", "details": []}


def test_a_wrong_field_is_named_in_the_details() -> None:
    """A violation has the field and what is wrong; an error of the whole body has no field."""
    refusal = wrong_field(FieldError("items[1].quantity", "must be an integer"))
    answer = json.loads(refusal.body())
    assert refusal.http_status == 400
    assert answer["message"] == "items[1].quantity: must be an integer"
    (detail,) = answer["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == "items[1].quantity"
    assert detail["fieldViolations"][0]["description"] == "must be an integer"
    assert wrong_field(FieldError("", "is not valid JSON")).status.message == "the body is not valid JSON"


def test_an_error_does_not_send_back_megabytes() -> None:
    """What the client called a field is cut where a person stops reading."""
    assert len(wrong_field(FieldError("x" * 1_000_000, "y" * 1_000_000)).body()) < 2000


def test_a_name_that_is_no_text_can_be_told() -> None:
    """JSON can spell half a surrogate pair as a name; the error about it is UTF-8 all the same."""
    assert "?: unknown field" in wrong_field(FieldError("\ud800", "unknown field")).body().decode()


def test_a_401_says_how_to_identify_oneself() -> None:
    """RFC 9110: a 401 has a WWW-Authenticate header."""
    assert failed(grpc.StatusCode.UNAUTHENTICATED).headers == ((b"www-authenticate", b"Bearer"),)
    assert failed(grpc.StatusCode.PERMISSION_DENIED).headers == ()
