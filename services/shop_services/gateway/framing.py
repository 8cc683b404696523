"""How a stream looks in the body of an answer: where a message begins and ends, and how an error is told from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from shop_services.gateway.errors import Refusal
from shop_services.gateway.httpbody import content_type


class Framing(Protocol):
    """Makes the body of an answer, piece by piece.

    `heartbeat` keeps it alive in silence and `end` ends it well; both may be empty. `opens_early`: it can begin when no
    message has come yet.
    """

    heartbeat: bytes
    end: bytes
    opens_early: bool

    def content_type(self, first: Any) -> bytes:
        """The type of the body, whose first message is `first` (None: it has none yet). Raises `Refusal`."""

    def message(self, response: Any) -> bytes:
        """A message. Raises `Refusal`: it has no such form."""

    def error(self, refusal: Refusal) -> bytes | None:
        """The end of a stream that failed; None if the body has no way to say it."""


@dataclass(frozen=True, slots=True)
class Style:
    """What goes around JSON of messages and errors."""

    content_type: str
    before: bytes
    after: bytes
    before_error: bytes
    end: bytes = b""
    heartbeat: bytes = b""


NDJSON = Style("application/x-ndjson", b'{"result":', b"}\n", b'{"error":')
"""A line for each message, in the envelope of grpc-gateway."""

SSE = Style(
    "text/event-stream",
    b"data: ",
    b"\n\n",
    b"event: error\ndata: ",
    # A browser that loses its connection connects again; after this, a page knows to close its EventSource.
    end=b"event: end\ndata: {}\n\n",
    heartbeat=b":\n\n",
)
"""Server-sent events. JSON as it is written here has no line breaks in it, so the data of an event is one line."""

STYLES = {style.content_type: style for style in (NDJSON, SSE)}
"""Those that a client can choose from, by their types; the first is the default."""


class Framed:
    """Messages as JSON, in a style."""

    opens_early = True

    def __init__(self, style: Style, encode: Callable[[Any], bytes]) -> None:
        self.heartbeat = style.heartbeat
        self.end = style.end
        self._style = style
        self._encode = encode

    def content_type(self, first: Any) -> bytes:
        return self._style.content_type.encode()

    def message(self, response: Any) -> bytes:
        return self._style.before + self._encode(response) + self._style.after

    def error(self, refusal: Refusal) -> bytes | None:
        return self._style.before_error + refusal.body() + self._style.after


class Raw:
    """The bytes of a `google.api.HttpBody` in each message, one after another; the first says of which type they are.

    Args:
        body_of: what gives it of a message.
    """

    heartbeat = b""
    end = b""
    opens_early = False

    def __init__(self, body_of: Callable[[Any], Any]) -> None:
        self._body_of = body_of

    def content_type(self, first: Any) -> bytes:
        return content_type(self._body_of(first)) if first is not None else b"application/octet-stream"

    def message(self, response: Any) -> bytes:
        data: bytes = self._body_of(response).data
        return data

    def error(self, refusal: Refusal) -> bytes | None:
        return None
