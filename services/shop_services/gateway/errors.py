"""Errors as callers of HTTP see them: a status as grpc-gateway maps it, and a `google.rpc.Status` as the body."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from starlette.types import Send

from grpc_balancer.retry import PUSHBACK
from shop_services.gateway.protojson import FieldError, dumps, message_printer
from shop_services.runtime.status import DETAILS_KEY

Headers = tuple[tuple[bytes, bytes], ...]

CLOSE: Headers = ((b"connection", b"close"),)
"""For an answer that comes before the request's body has: what is left of that is not waited for."""

NOSNIFF: Headers = ((b"x-content-type-options", b"nosniff"),)
"""A browser is to believe the type of an answer, and not to find a page of HTML in a picture, or in JSON."""

JSON_HEADERS: Headers = ((b"content-type", b"application/json"), *NOSNIFF, (b"cache-control", b"no-store"))
"""What every answer in JSON has. It is for whoever asked: some have tokens, none is for a cache to keep."""

RETRY: Headers = ((b"retry-after", b"1"),)
"""The least that the header can say, for what may be over in a moment."""

CLIENT_CLOSED = 499
"""What nginx and grpc-gateway call a request whose client has left."""

# grpc-gateway's runtime.HTTPStatusFromCode, clause by clause.
_HTTP_STATUS: Mapping[int, int] = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: CLIENT_CLOSED,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,  # not 412, which is the answer to HTTP's own conditional headers
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
}

_CHALLENGE = b"www-authenticate"
INVALID_TOKEN: Headers = ((_CHALLENGE, b'Bearer error="invalid_token"'),)
"""RFC 6750, section 3: for an access token that was sent and is no good. Who sent none is told of no error."""

_LONGEST = 300
_BALANCER = "grpc_balancer: "  # begins no error string of gRPC's own
_UNANSWERED: Mapping[int, str] = {
    code_pb2.UNAVAILABLE: "is not available",
    code_pb2.DEADLINE_EXCEEDED: "did not answer in time",
}
_VERSION = re.compile(r"\.v[0-9][0-9a-z]*$")

_print_status = message_printer(status_pb2.Status.DESCRIPTOR)


def http_status(code: int) -> int:
    """The HTTP status that a gRPC code is answered with."""
    return _HTTP_STATUS.get(code, 500)


class Refusal(Exception):
    """A request that ends with an error, wherever that was found out.

    `http_status` follows from the status' code, unless HTTP has a more precise one (404 for a path, 405, 413, 415).
    `cause` is for the log alone.
    """

    def __init__(
        self, status: status_pb2.Status, http_status: int = 0, headers: Headers = (), *, cause: str = ""
    ) -> None:
        super().__init__(status.message)
        self.status = status
        self.http_status = http_status or _HTTP_STATUS.get(status.code, 500)
        # RFC 9110, section 11.6.1: a 401 says how to identify oneself.
        challenge = self.http_status == 401 and not any(name == _CHALLENGE for name, _ in headers)
        self.headers = (*headers, (_CHALLENGE, b"Bearer")) if challenge else headers
        self.cause = cause

    @classmethod
    def of(cls, code: int, message: str, *details: Message, http_status: int = 0, headers: Headers = ()) -> Refusal:
        """A refusal that begins here, not in a service."""
        return cls(_status(code, message, details), http_status, headers)

    def body(self) -> bytes:
        """`{"code": 5, "message": "…", "details": [{"@type": …}]}`."""
        return dumps(_print_status(self.status))

    async def send(self, send: Send) -> None:
        """Answer an ASGI request with it."""
        await send_json(send, self.http_status, self.headers, self.body())


async def send_json(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Answer an ASGI request."""
    await _send(send, status, (*JSON_HEADERS, *headers), body)


async def send_body(send: Send, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
    """Answer an ASGI request with a body of any type."""
    await _send(send, status, ((b"content-type", content_type), *headers), body)


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


def wrong_field(error: FieldError) -> Refusal:
    """The refusal of a request because of one of its fields, which the details name."""
    path, description = _cut(error.path), _cut(error.description)
    violation = error_details_pb2.BadRequest.FieldViolation(field=path, description=description)
    message = f"{path}: {description}" if path else f"the body {description}"
    return Refusal.of(code_pb2.INVALID_ARGUMENT, message, error_details_pb2.BadRequest(field_violations=[violation]))


def failed_call(error: grpc.aio.AioRpcError, headers: Headers = ()) -> Refusal:
    """The refusal that a failed RPC stands for, with the details that its service gave.

    When to try again, if the service said that, is a `Retry-After` as well.
    """
    code: int = error.code().value[0]
    trailers = dict(error.trailing_metadata() or ())
    status = _status_in(trailers.get(DETAILS_KEY))
    if status is None or status.code != code:  # a status that contradicts the trailers is somebody else's
        status = _status(code, error.details() or "", ())
    if (seconds := _pause(status, trailers.get(PUSHBACK))) is not None:
        headers = (*headers, (b"retry-after", str(seconds).encode()))
    return Refusal(status, headers=headers)


def no_answer(error: grpc.aio.AioRpcError, rpc: str, request_id: str) -> Refusal | None:
    """The refusal for an RPC that the balancer ended by itself, since no server took it; None: a server answered.

    What the balancer says of it (addresses, the registry's revision) is the refusal's `cause`, and not for clients.
    """
    if not (error.debug_error_string() or "").startswith(_BALANCER):
        return None
    code: int = error.code().value[0]
    package, _, service = rpc.strip("/").partition("/")[0].rpartition(".")
    name = _VERSION.sub("", package).rpartition(".")[2] or service  # `product`, for shop.product.v1.ProductService
    message = f"{name} {_UNANSWERED.get(code, 'could not be called')}"
    status = _status(code, message, (error_details_pb2.RequestInfo(request_id=request_id),))
    return Refusal(status, headers=RETRY if code == code_pb2.UNAVAILABLE else (), cause=error.details() or "")


def _status_in(value: str | bytes | None) -> status_pb2.Status | None:
    if not isinstance(value, bytes):
        return None
    try:
        return status_pb2.Status.FromString(value)
    except DecodeError:
        return None


def _pause(status: status_pb2.Status, pushback: str | bytes | None) -> int | None:
    """Whole seconds to wait for, from RetryInfo or from the pushback of gRFC A6; None: nothing was said of it."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(retry.DESCRIPTOR):
            try:
                detail.Unpack(retry)
            except DecodeError:
                continue
            return max(0, retry.retry_delay.seconds + (retry.retry_delay.nanos > 0))
    if isinstance(pushback, str) and pushback.isascii() and pushback.isdecimal():  # a negative one: do not try again
        return -(-int(pushback[:9]) // 1000)
    return None


def _cut(text: str) -> str:
    """What a client sent, as far as a person would read it, and as UTF-8 can say it.

    The name of an unknown field may be megabytes, and may hold half of a surrogate pair, which JSON can spell.
    """
    text = text.encode(errors="replace").decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _status(code: int, message: str, details: Iterable[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status
