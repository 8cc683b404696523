from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from grpc_balancer.failure import local_error
from shop_services.gateway.errors import Refusal, failed_call, no_answer, send_json, wrong_field
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


def test_what_no_server_took_shows_nothing_of_the_inside() -> None:
    """The service's name and the request's id; what the balancer knows is for the log."""
    inside = "no endpoint of 'product': no instance is registered; registry snapshot at revision 187"
    rpc = "/shop.product.v1.InventoryService/GetStock"
    refusal = no_answer(local_error(grpc.StatusCode.UNAVAILABLE, inside), rpc, "r-1")
    assert refusal is not None
    assert json.loads(refusal.body()) == {
        "code": 14,
        "message": "product is not available",
        "details": [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r-1", "servingData": ""}],
    }
    assert refusal.headers == ((b"retry-after", b"1"),)
    assert refusal.cause == inside


@pytest.mark.parametrize(
    ("code", "rpc", "message"),
    [
        (grpc.StatusCode.UNAVAILABLE, "/Zoo/Echo", "Zoo is not available"),
        (grpc.StatusCode.UNAVAILABLE, "/zoo.Zoo/Echo", "zoo is not available"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "/tests.zoo.v1beta1.Zoo/Echo", "zoo did not answer in time"),
        (grpc.StatusCode.INTERNAL, "/tests.zoo.v1.Zoo/Echo", "zoo could not be called"),
    ],
)
def test_what_no_server_took_keeps_its_code(code: grpc.StatusCode, rpc: str, message: str) -> None:
    """With words of its own; only what is not available is to be tried again."""
    refusal = no_answer(local_error(code, "10.0.0.1:80: Connection refused"), rpc, "r-1")
    assert refusal is not None
    assert (refusal.status.code, refusal.status.message) == (code.value[0], message)
    assert bool(refusal.headers) is (code is grpc.StatusCode.UNAVAILABLE)


def test_a_servers_answer_is_its_own() -> None:
    """Whatever its words are: gRPC says that they came from a peer."""
    words = "no endpoint of 'x': none"
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), words, "UNKNOWN:Error received from peer")
    assert no_answer(error, "/tests.zoo.v1.Zoo/Echo", "r-1") is None


async def test_json_is_not_kept_and_not_guessed_at() -> None:
    """Every answer in JSON, errors too: some have tokens."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_json(send, 200, ((b"a", b"b"),), b"{}")
    assert dict(sent[0]["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"x-content-type-options": b"nosniff",
        b"cache-control": b"no-store",
        b"a": b"b",
    }


def with_delay(**delay: int) -> bytes:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(**delay)))
    return status_with(detail, code=8)


@pytest.mark.parametrize(
    ("trailer", "seconds"),
    [
        (("grpc-status-details-bin", with_delay(seconds=3)), b"3"),
        (("grpc-status-details-bin", with_delay(seconds=3, nanos=1)), b"4"),
        (("grpc-status-details-bin", with_delay(seconds=-3)), b"0"),
        (("grpc-retry-pushback-ms", "1001"), b"2"),
        (("grpc-retry-pushback-ms", "0"), b"0"),
        (("grpc-retry-pushback-ms", "-1"), None),
        (("grpc-retry-pushback-ms", "soon"), None),
    ],
)
def test_when_to_try_again_is_a_header(trailer: tuple[str, Any], seconds: bytes | None) -> None:
    """RetryInfo, or else gRPC's pushback, is a Retry-After in whole seconds, never earlier than asked for."""
    refusal = failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "why", trailer)
    assert dict(refusal.headers).get(b"retry-after") == seconds
