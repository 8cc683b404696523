"""Which statuses an operation is answered with, and why.

Three things say so: the comment of the RPC, which names its own errors (`NOT_FOUND: there is none with this id.`), the
rule about who may call it, and the gateway, whose share is the same everywhere. Nothing stands for "any other", so that
whoever tests the answers by the document finds out what it does not say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.rpc import code_pb2

from shop_services.gateway.errors import http_status
from shop_services.gateway.rules import Rule
from shop_services.runtime.identity.caller import Role
from shop_services.runtime.identity.rules import Rule as AccessRule

_NAMED = re.compile(rf"\b({'|'.join(code_pb2.Code.keys())}): ")

_SHARED = {
    400: ("BadRequest", "INVALID_ARGUMENT: the request does not fit; the details name the fields."),
    401: ("Unauthorized", "UNAUTHENTICATED: no access token was sent, or none that is good."),
    403: ("Forbidden", "PERMISSION_DENIED: whoever the token stands for may not."),
    406: ("NotAcceptable", "INVALID_ARGUMENT: `Accept` allows for no form that a stream has here."),
    408: ("RequestTimeout", "DEADLINE_EXCEEDED: the request did not arrive in time."),
    413: ("ContentTooLarge", "RESOURCE_EXHAUSTED: the body is too large."),
    415: ("UnsupportedMediaType", "INVALID_ARGUMENT: the body is none that is read here."),
    429: ("TooManyRequests", "RESOURCE_EXHAUSTED: too many requests of this caller or from this address."),
    431: ("HeadersTooLarge", "RESOURCE_EXHAUSTED: the headers are too large, or too many."),
    499: ("Cancelled", "CANCELLED: a service gave the call up, as one does that stops."),
    500: ("InternalServerError", "INTERNAL: a defect. The details have the id of the request, to ask about."),
    503: (
        "ServiceUnavailable",
        "UNAVAILABLE: a service cannot be reached, or has too much to do. Try again later.",
    ),
    504: ("GatewayTimeout", "DEADLINE_EXCEEDED: no answer came in time. What was asked for may still happen."),
}
_ALWAYS = (400, 408, 429, 431, 499, 500, 503, 504)
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "How to identify oneself.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}
_ONE_OF_ANYONE = "UNAUTHENTICATED: a token was sent, and is not good."


class Statuses:
    """Makes the error responses of operations, and keeps those that many have as components."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.components = {name: _response(status, [text], error) for status, (name, text) in _SHARED.items()}
        self._error = error

    def of(self, rule: Rule, comment: str, access: AccessRule | None) -> dict[str, Any]:
        """The responses by status, for an RPC with this comment, that these may call."""
        reasons = {status: [_SHARED[status][1]] for status in _possible(rule, access)}
        if access is not None and access.anyone:
            reasons[401] = [_ONE_OF_ANYONE]
        for code, text in named_in(comment):
            reasons.setdefault(http_status(code), []).append(text)
        return {str(status): self._response(status, reasons[status]) for status in sorted(reasons)}

    def _response(self, status: int, reasons: list[str]) -> dict[str, Any]:
        name, shared = _SHARED.get(status, ("", ""))
        if reasons == [shared]:
            return {"$ref": f"#/components/responses/{name}"}
        return _response(status, reasons, self._error)


def named_in(comment: str) -> Iterator[tuple[int, str]]:
    """The errors that the comment of an RPC names: the code of each, and what it says of it, its name included."""
    for paragraph in comment.split("\n\n"):
        _, *parts = _NAMED.split(" ".join(paragraph.split()))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            yield code_pb2.Code.Value(name), f"{name}: {text.strip()}"


def _possible(rule: Rule, access: AccessRule | None) -> Iterator[int]:
    yield from _ALWAYS
    if rule.body is not None:
        yield from (413, 415)
    if rule.rpc.server_streaming:
        yield 406
    if access is not None:
        yield 401
        # Whose things are told by the resource alone is no ground for a refusal: others' do not exist for a customer.
        if not access.anyone and (Role.CUSTOMER not in access.roles or access.owner):
            yield 403


def _response(status: int, reasons: list[str], error: dict[str, Any]) -> dict[str, Any]:
    code, _, message = reasons[0].partition(": ")
    example = {"code": code_pb2.Code.Value(code), "message": message, "details": []}
    return {
        "description": reasons[0] if len(reasons) == 1 else "\n".join(f"- {reason}" for reason in reasons),
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {"application/json": {"schema": error, "example": example}},
    }
