"""`google.api.HttpBody`: bodies of any type, which are passed on as they are instead of as JSON.

A message of this type counts where it is the whole body: as the request or the response itself, or as the field that
`body` or `response_body` of the annotation names. Anywhere else it is a message like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc import code_pb2

from shop_services.gateway.errors import Refusal
from shop_services.gateway.rules import WHOLE, Rule

_NAME = "google.api.HttpBody"
_UNKNOWN = "application/octet-stream"  # RFC 9110, section 8.3: what a recipient may take an untyped body for
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ -~]*")


def raw_request(rule: Rule) -> Callable[[Any], Any] | None:
    """What gives the HttpBody in a request message that the body of the HTTP request goes to; None if that is JSON."""
    if isinstance(rule.body, FieldDescriptor):
        return _field(rule.body)
    return _itself if rule.body == WHOLE and _is_http_body(rule.rpc.input_type) else None


def raw_response(rule: Rule) -> Callable[[Any], Any] | None:
    """What gives the HttpBody in a response message that is the answer; None if that is JSON."""
    if rule.response_body is not None:
        return _field(rule.response_body)
    return _itself if _is_http_body(rule.rpc.output_type) else None


def content_type(body: Any) -> bytes:
    """The type that an HttpBody says it has. Raises `Refusal`: it is none, which is the service's fault."""
    text: str = body.content_type or _UNKNOWN
    if not _TYPE.fullmatch(text):
        raise Refusal.of(code_pb2.INTERNAL, "the response has a content type that is none")
    return text.encode("ascii")


def _is_http_body(descriptor: Descriptor | None) -> bool:
    return descriptor is not None and descriptor.full_name == _NAME


def _field(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    if field.is_repeated or not _is_http_body(field.message_type):
        return None
    name = field.name
    return lambda message: getattr(message, name)


def _itself(message: Any) -> Any:
    return message
