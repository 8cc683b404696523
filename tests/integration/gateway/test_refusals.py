"""What a client is told when its request cannot be served, over real HTTP."""

from __future__ import annotations

import grpc
import httpx
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_a_failed_call_keeps_its_code_and_message(
    shared_client: httpx.AsyncClient, code: grpc.StatusCode
) -> None:
    """Whatever code a service ends with, the body has it."""
    response = await shared_client.post("/v1/fail", json={"code": code.value[0], "message": "wörld"})
    assert response.status_code >= 400
    assert response.json() == {"code": code.value[0], "message": "wörld", "details": []}
    assert response.headers["content-type"] == "application/json"


async def test_details_reach_the_client(shared_client: httpx.AsyncClient) -> None:
    """Known details come as their fields, unknown ones as bytes."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="R", domain="d", metadata={"a": "b"}))
    details = [
        {"@type": detail.type_url, "reason": "R", "domain": "d", "metadata": {"a": "b"}},
        {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"},
    ]
    response = await shared_client.post("/v1/fail", json={"code": 5, "message": "m", "details": details})
    assert response.status_code == 404
    assert response.json()["details"] == details
    assert response.headers["grpc-trailer-last"] == "word"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code", "message"),
    [
        ("GET", "/v2/nothing", b"", 404, 5, "there is nothing at /v2/nothing"),
        ("GET", "/v1/echo/", b"", 404, 5, "there is nothing at /v1/echo/"),
        ("GET", "/nothing", b"", 404, 5, "there is nothing at /nothing"),
        ("DELETE", "/v1/echo", b"", 405, 12, "/v1/echo does not take DELETE, only GET, HEAD, POST"),
        ("POST", "/healthz", b"", 405, 12, "/healthz does not take POST, only GET, HEAD"),
        (
            "POST",
            "/v1/feed",
            b"x",
            501,
            12,
            "tests.zoo.v1.Zoo.Feed takes a stream of requests, which HTTP/JSON does not serve: call it by gRPC",
        ),
        ("GET", "/v1/echo?nope=1", b"", 400, 3, "nope: unknown query parameter"),
        ("POST", "/v1/echo", b'{"nope": 1}', 400, 3, "nope: unknown field"),
        ("POST", "/v1/echo", b'{"a":', 400, 3, "the body is not valid JSON: Expecting value at line 1, column 6"),
        ("POST", "/v1/echo", b"[]", 400, 3, "the body must be an object"),
        ("POST", "/v1/echo", b'{"\\ud800": 1}', 400, 3, "?: unknown field"),
        ("GET", "/v1/echo/%zz", b"", 400, 3, "the path: '%zz' is not a percent-encoded character"),
        ("GET", "/v1/echo/x/1/true", b"", 400, 3, "int64_value: must be an integer"),
        (
            "GET",
            "/v1/echo",
            b"{}",
            400,
            3,
            "the body must be empty: this method takes its input from the path and the query",
        ),
    ],
)
async def test_every_error_has_the_shape_of_a_status(
    shared_client: httpx.AsyncClient, method: str, path: str, content: bytes, status: int, code: int, message: str
) -> None:
    """Errors of HTTP, of the request and of the service look the same, and say what is wrong."""
    response = await shared_client.request(method, path, content=content)
    assert response.status_code == status
    answer = response.json()
    assert answer.keys() == {"code", "message", "details"}
    assert (answer["code"], answer["message"]) == (code, message)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]


async def test_a_wrong_field_is_named_in_the_details(shared_client: httpx.AsyncClient) -> None:
    """INVALID_ARGUMENT has a BadRequest with the path of the field."""
    response = await shared_client.post("/v1/echo", json={"children": [{"number": "x"}]})
    (detail,) = response.json()["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation["field"] for violation in detail["fieldViolations"]] == ["children[0].number"]


async def test_a_405_lists_the_methods(shared_client: httpx.AsyncClient) -> None:
    """RFC 9110: a 405 has an Allow header."""
    assert (await shared_client.delete("/v1/echo")).headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 200),
        ({"content-type": "application/json; charset=UTF-8"}, 200),
        ({"content-type": "application/merge-patch+json"}, 200),
        ({"content-type": "application/x-www-form-urlencoded"}, 200),  # what `curl -d` says of everything
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({}, 200),
    ],
)
async def test_a_body_is_json_or_refused(
    shared_client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """A body of another type, charset or encoding is a 415 that says what is taken."""
    response = await shared_client.post("/v1/echo", content=b'{"stringValue":"x"}', headers=headers)
    assert response.status_code == status
    if status == 415:
        assert response.json()["code"] == 3
        assert response.headers["accept-encoding"] == "identity"
        assert ("accept-post" in response.headers) is ("content-encoding" not in headers)
