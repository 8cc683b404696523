"""A request's body: read whole, within a size and a time, if it is JSON where it has to be."""

from __future__ import annotations

import asyncio

from google.rpc import code_pb2
from starlette.types import Receive

from shop_services.gateway.errors import CLOSE, Refusal
from shop_services.gateway.metadata import Head

# The last is what `curl -d` says of every body unless it is told otherwise; grpc-gateway takes that for JSON as well.
_TAKEN_FOR_JSON = ("", "application/json", "application/x-www-form-urlencoded")
_POST = ((b"accept-post", b"application/json"),)


class ClientGone(Exception):
    """The client has closed the connection: nobody is left to answer."""


async def read_body(head: Head, receive: Receive, *, limit: int, timeout: float, json: bool) -> bytes:
    """The body, at most `limit` bytes, which must arrive within `timeout` seconds. `json`: it is to be that.

    Raises:
        Refusal: it is too large (413), not JSON or encoded (415), or too slow (408).
        ClientGone: the client left before all of it was here.
    """
    if not head.has_body:
        return b""
    if head.content_length is not None and head.content_length > limit:
        raise _too_large(limit)
    parts = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                size += len(message.get("body", b""))
                if size > limit:
                    raise _too_large(limit)
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        what = f"the body did not arrive within {timeout:g} s"
        raise Refusal.of(code_pb2.DEADLINE_EXCEEDED, what, http_status=408, headers=CLOSE) from None
    if size:
        _require_plain(head)
        if json:
            _require_json(head)
    return b"".join(parts)


async def client_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _require_json(head: Head) -> None:
    """A body that says nothing of its type, or nothing meant, is taken for JSON; another must say that it is."""
    media, *parameters = (part.strip().lower() for part in head.content_type.split(";"))
    if media not in _TAKEN_FOR_JSON and not (media.startswith("application/") and media.endswith("+json")):
        raise _unsupported(f"a body of {media!r}: send application/json", *_POST)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise _unsupported(f"a body in {value}: JSON is UTF-8", *_POST)


def _require_plain(head: Head) -> None:
    if head.content_encoding not in ("", "identity"):
        raise _unsupported(f"a body encoded by {head.content_encoding!r}: send it as it is")


def _unsupported(what: str, *headers: tuple[bytes, bytes]) -> Refusal:
    headers = ((b"accept-encoding", b"identity"), *headers)
    return Refusal.of(code_pb2.INVALID_ARGUMENT, f"cannot read {what}", http_status=415, headers=headers)


def _too_large(limit: int) -> Refusal:
    what = f"the body is larger than {limit} bytes"
    return Refusal.of(code_pb2.RESOURCE_EXHAUSTED, what, http_status=413, headers=CLOSE)
