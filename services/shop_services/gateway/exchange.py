"""What passes between the HTTP side of the transcoder and what serves an RPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.rpc import code_pb2
from starlette.types import Receive

from shop_services.gateway.errors import Headers, Refusal
from shop_services.gateway.metadata import Metadata
from shop_services.gateway.rules import Rule


@dataclass(frozen=True, slots=True)
class Request:
    """A request to one RPC. `captured` and `query` are what the path and the query have; `timeout` is in seconds."""

    captured: Sequence[str]
    query: str
    body: bytes
    metadata: Metadata
    timeout: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back, with status 200."""

    body: bytes
    headers: Headers


class Endpoint(Protocol):
    """Serves the rule of an RPC. `str` of it is the path of the RPC."""

    async def answer(self, request: Request, receive: Receive) -> Answer:
        """Serve one request. `receive` tells when the client leaves.

        Raises:
            Refusal: the request is wrong, or the call failed.
            ClientGone: the client left meanwhile.
        """


class Unserved:
    """Keeps the place of an RPC that streams, so that its path is not taken for another's: it answers 501."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    async def answer(self, request: Request, receive: Receive) -> Answer:
        """Refuse."""
        name = self._rule.rpc.full_name
        raise Refusal.of(code_pb2.UNIMPLEMENTED, f"{name} streams: call it by gRPC, HTTP does not serve it yet")

    def __str__(self) -> str:
        return str(self._rule)
