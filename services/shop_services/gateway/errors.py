"""Errors as callers of HTTP see them: a status as grpc-gateway maps it, and a `google.rpc.Status` as the body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from starlette.types import Send

from shop_services.gateway.protojson import FieldError, dumps, message_printer
from shop_services.runtime.status import DETAILS_KEY

Headers = tuple[tuple[bytes, bytes], ...]

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

_LONGEST = 300

_print_status = message_printer(status_pb2.Status.DESCRIPTOR)


class Refusal(Exception):
    """A request that ends with an error, wherever that was found out.

    `http_status` follows from the status' code, unless HTTP has a more precise one (404 for a path, 405, 413, 415).
    """

    def __init__(self, status: status_pb2.Status, http_status: int = 0, headers: Headers = ()) -> None:
        super().__init__(status.message)
        self.status = status
        self.http_status = http_status or _HTTP_STATUS.get(status.code, 500)
        # RFC 9110, section 11.6.1: a 401 says how to identify oneself.
        self.headers = (*headers, (b"www-authenticate", b"Bearer")) if self.http_status == 401 else headers

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
    first = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*first, *headers]})
    await send({"type": "http.response.body", "body": body})


def wrong_field(error: FieldError) -> Refusal:
    """The refusal of a request because of one of its fields, which the details name."""
    path, description = _cut(error.path), _cut(error.description)
    violation = error_details_pb2.BadRequest.FieldViolation(field=path, description=description)
    message = f"{path}: {description}" if path else f"the body {description}"
    return Refusal.of(code_pb2.INVALID_ARGUMENT, message, error_details_pb2.BadRequest(field_violations=[violation]))


def failed_call(error: grpc.aio.AioRpcError, headers: Headers = ()) -> Refusal:
    """The refusal that a failed RPC stands for, with the details that its service gave."""
    code: int = error.code().value[0]
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            if status.code == code:  # a status that contradicts the trailers is somebody else's
                return Refusal(status, headers=headers)
    return Refusal(_status(code, error.details() or "", ()), headers=headers)


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
