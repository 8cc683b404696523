"""From an error of ours to what goes over the wire, a google.rpc.Status in `grpc-status-details-bin`, and back.

A status travels in HTTP/2 trailers, which peers refuse beyond some 8 KB. So its parts are cut to size here, once.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2

from shop_services.runtime.errors import DomainError

DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE = 500
"""Characters of a message that are sent."""
MAX_DETAILS = 5000
"""Bytes of details that are sent. grpc's default limit on metadata is 8 KB, and base64 adds a third."""


def status_of(error: DomainError, request_id: str) -> status_pb2.Status:
    """The status of `error`, with its details and the id of the request it ended."""
    return make_status(error.code, error.message, error.details(), request_id)


def make_status(code: grpc.StatusCode, message: str, details: Iterable[Message], request_id: str) -> status_pb2.Status:
    """A status with a RequestInfo and as many of `details` as fit; a long list of violations ends in a count."""
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=_cut(message))
    packed = [_packed(rpc.RequestInfo(request_id=request_id))]
    left = MAX_DETAILS
    for detail in details:
        if isinstance(detail, rpc.BadRequest):
            detail = _shortened(detail, left // 2)
        one = _packed(detail)
        if (size := one.ByteSize()) <= left:
            packed.append(one)
            left -= size
    status.details.extend(packed)
    return status


def info_of(error: grpc.aio.AioRpcError) -> rpc.ErrorInfo:
    """The ErrorInfo of a failed call, which tells errors apart by their `reason`; an empty one if it came with none."""
    info = rpc.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                details = status_pb2.Status.FromString(value).details
            except DecodeError:
                continue
            for detail in details:
                if detail.Is(rpc.ErrorInfo.DESCRIPTOR) and detail.Unpack(info):
                    return info
    return info


def _shortened(request: rpc.BadRequest, limit: int) -> rpc.BadRequest:
    result = rpc.BadRequest()
    for done, violation in enumerate(request.field_violations):
        field, description = _cut(violation.field, 200), _cut(violation.description, 200)
        cut = rpc.BadRequest.FieldViolation(field=field, description=description)
        if result.ByteSize() + cut.ByteSize() > limit:
            more = len(request.field_violations) - done
            result.field_violations.add(description=f"and {more} more")
            break
        result.field_violations.append(cut)
    return result


def _packed(message: Message) -> Any:
    result = Any()
    result.Pack(message)
    return result


def _cut(text: str, limit: int = MAX_MESSAGE) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
