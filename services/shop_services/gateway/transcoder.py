"""HTTP/JSON for any gRPC services, from the `google.api.http` annotations in their descriptors. It knows no shop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import code_pb2
from starlette.types import Receive, Scope, Send

from shop_services.gateway.body import read_body
from shop_services.gateway.errors import Refusal, send_json
from shop_services.gateway.escapes import InvalidEscape
from shop_services.gateway.exchange import Answer, Endpoint, Request, Unserved
from shop_services.gateway.metadata import read_head
from shop_services.gateway.routes import Match, NoRoute, Routes, WrongMethod
from shop_services.gateway.rules import rules_of
from shop_services.gateway.unary import UnaryEndpoint
from shop_services.runtime.context import REQUEST_ID, current


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take: seconds (by default, and at most if it asks for more), and bytes of its body."""

    timeout: float = 10.0
    most_timeout: float = 60.0
    body: int = 4 * 1024 * 1024  # what a gRPC server accepts as a message, by default


class Transcoder:
    """An ASGI application: one route for each binding of the services' RPCs.

    Args:
        services: the services to serve.
        channel_of: the channel to call each by.
        limits: what a request may take.

    Raises:
        InvalidRule: an annotation cannot be served.
        Conflict: two annotations match the same requests.
    """

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        channel_of: Callable[[ServiceDescriptor], grpc.aio.Channel],
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._routes: Routes[Endpoint] = Routes()
        for service in services:
            for rule in rules_of(service):
                endpoint = Unserved(rule) if rule.streams else UnaryEndpoint(rule, channel_of(service))
                self._routes.add(rule.method, rule.template, endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; `scope["rpc"]` becomes the path of the RPC that it stands for."""
        try:
            answer = await self._answer(scope, receive)
        except Refusal as refusal:
            await refusal.send(send)
        else:
            await send_json(send, 200, answer.headers, answer.body)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        match = self._match(scope)
        scope["rpc"] = str(match.route.target)
        head = read_head(scope["headers"])
        timeout = self._limits.timeout if head.timeout is None else min(head.timeout, self._limits.most_timeout)
        body = await read_body(head, receive, limit=self._limits.body, timeout=timeout)
        if (serving := current()) is not None:
            head.metadata.append((REQUEST_ID, serving.request_id))
        query = scope["query_string"].decode("latin-1")
        return await match.route.target.answer(Request(match.captured, query, body, head.metadata, timeout), receive)

    def _match(self, scope: Scope) -> Match[Endpoint]:
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        try:
            return self._routes.match(method, path)
        except NoRoute:
            raise Refusal.of(code_pb2.NOT_FOUND, f"there is nothing at {path[:300]}") from None
        except WrongMethod as error:
            raise Refusal.of(
                code_pb2.UNIMPLEMENTED,
                f"{path} does not take {method}, only {', '.join(error.allowed)}",
                http_status=405,
                headers=((b"allow", ", ".join(error.allowed).encode()),),
            ) from None
        except InvalidEscape as error:
            raise Refusal.of(code_pb2.INVALID_ARGUMENT, f"the path: {error}") from None
