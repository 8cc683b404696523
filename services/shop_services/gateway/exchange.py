"""What passes between the HTTP side of the transcoder and what serves an RPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.rpc import code_pb2
from starlette.types import Receive, Scope, Send

from shop_services.gateway.errors import CLOSE, Refusal
from shop_services.gateway.metadata import Head
from shop_services.gateway.rules import Rule


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take, in seconds and bytes."""

    timeout: float = 10.0
    """For a call with one response whose client does not say."""
    most_timeout: float = 60.0
    """For such a call at most, whatever its client says."""
    body: int = 4 * 1024 * 1024
    """Of a request's body: what a gRPC server accepts as a message, by default."""
    stream: float = 3600.0
    """For a stream as a whole, by default and at most."""
    idle: float = 300.0
    """Between two messages of a stream: Envoy's stream_idle_timeout."""
    heartbeat: float = 10.0
    """Of silence in a stream of events before its client is told that it lives: browsers and proxies wait longer."""
    stream_bytes: int = 256 * 1024 * 1024
    """Of all messages of a stream."""

    def call_timeout(self, asked: float | None) -> float:
        """For a call with one response whose client asked for `asked`; so long it may take to send its body as well."""
        return self.timeout if asked is None else min(asked, self.most_timeout)

    def stream_timeout(self, asked: float | None) -> float:
        """For a stream whose client asked for `asked`."""
        return self.stream if asked is None else min(asked, self.stream)


@dataclass(slots=True)
class Request:
    """A request to one RPC: what its path captured, its query as it came, what of its headers matters, and its body.

    `scope` and `receive` are those of ASGI.
    """

    captured: Sequence[str]
    query: str
    head: Head
    scope: Scope
    receive: Receive


WAITING = "shop.waiting"
"""The key in a scope of what to call (if there is any) when a request is done with its work but for waiting."""


class BrokenOff(Exception):
    """An answer has begun and cannot be finished. Its connection has to be closed, which the server sees to."""


class Endpoint(Protocol):
    """Serves the rule of an RPC. `str` of it is the path of the RPC."""

    async def serve(self, request: Request, send: Send) -> None:
        """Serve one request. The call is cancelled when the client leaves.

        Raises:
            Refusal: the request is wrong, or the call failed; nothing was sent.
            ClientGone: the client left meanwhile.
            BrokenOff: the answer cannot be finished.
        """


class Unserved:
    """Keeps the place of an RPC that takes a stream, so that its path is not taken for another's: it answers 501.

    HTTP/1.1 has no way to say that one of several requests in a body is wrong while the others go on, and browsers
    cannot send a body in pieces over it.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    async def serve(self, request: Request, send: Send) -> None:
        """Refuse; the body is not waited for."""
        what = f"{self._rule.rpc.full_name} takes a stream of requests, which HTTP/JSON does not serve: call it by gRPC"
        raise Refusal.of(code_pb2.UNIMPLEMENTED, what, headers=CLOSE if request.head.has_body else ())

    def __str__(self) -> str:
        return str(self._rule)
