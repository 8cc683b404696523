"""HTTP/JSON for any gRPC services, from the `google.api.http` annotations in their descriptors. It knows no shop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import code_pb2
from starlette.types import Receive, Scope, Send

from shop_services.gateway.errors import Refusal
from shop_services.gateway.escapes import InvalidEscape
from shop_services.gateway.exchange import Endpoint, Limits, Request, Unserved
from shop_services.gateway.metadata import read_head
from shop_services.gateway.routes import Match, NoRoute, Routes, WrongMethod
from shop_services.gateway.rules import Rule, rules_of
from shop_services.gateway.streaming import StreamEndpoint, Streams
from shop_services.gateway.unary import UnaryEndpoint
from shop_services.runtime.context import REQUEST_ID, current
from shop_services.runtime.overload import Telling

__all__ = ["Limits", "Transcoder"]


class Transcoder:
    """An ASGI application: one route for each binding of the services' RPCs.

    Args:
        services: the services to serve.
        channel_of: the channel to call each by.
        limits: what a request may take.
        bodies: by package, the bytes that a body for its services may have, where that is less.

    Raises:
        InvalidRule: an annotation cannot be served.
        Conflict: two annotations match the same requests.
    """

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        channel_of: Callable[[ServiceDescriptor], grpc.aio.Channel],
        limits: Limits | None = None,
        bodies: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._streams = Streams()
        self._unanswered = Telling("no_endpoint")
        self._limits = limits or Limits()
        self._bodies = bodies
        self._routes: Routes[Endpoint] = Routes()
        for service in services:
            for rule in rules_of(service):
                self._routes.add(rule.method, rule.template, self._endpoint(rule, channel_of(service)))

    def end_streams(self) -> None:
        """End all streams, those that begin later too: their clients are told to call again, at another gateway."""
        self._streams.end()

    def close(self) -> None:
        """Tell of the calls that no server took, as far as they were not told yet."""
        self._unanswered.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; `scope["rpc"]` becomes the path of the RPC that it stands for."""
        try:
            match = self._match(scope)
            endpoint = match.route.target
            scope["rpc"] = str(endpoint)
            head = read_head(scope["headers"])
            if (serving := current()) is not None:
                head.metadata.append((REQUEST_ID, serving.request_id))
            query = scope["query_string"].decode("latin-1")
            await endpoint.serve(Request(match.captured, query, head, scope, receive), send)
        except Refusal as refusal:
            if refusal.cause:
                self._unanswered.refused(rpc=scope["rpc"], cause=refusal.cause)
            await refusal.send(send)

    def _match(self, scope: Scope) -> Match[Endpoint]:
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        try:
            return self._routes.match(method, path)
        except NoRoute:
            raise Refusal.of(code_pb2.NOT_FOUND, f"there is nothing at {path[:300]}") from None
        except WrongMethod as error:
            raise Refusal.of(
                code_pb2.UNIMPLEMENTED,
                f"{path[:300]} does not take {method[:20]}, only {', '.join(error.allowed)}",
                http_status=405,
                headers=((b"allow", ", ".join(error.allowed).encode()),),
            ) from None
        except InvalidEscape as error:
            raise Refusal.of(code_pb2.INVALID_ARGUMENT, f"the path: {error}") from None

    def _endpoint(self, rule: Rule, channel: grpc.aio.Channel) -> Endpoint:
        if rule.rpc.client_streaming:
            return Unserved(rule)
        package = rule.rpc.containing_service.file.package
        limits = replace(self._limits, body=min(self._limits.body, self._bodies.get(package, self._limits.body)))
        if rule.rpc.server_streaming:
            return StreamEndpoint(rule, channel, limits, self._streams)
        return UnaryEndpoint(rule, channel, limits)
