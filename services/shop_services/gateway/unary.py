"""One RPC with one response, as HTTP: a request in, the call, JSON (or a body of the service's own) out."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import message_factory
from starlette.types import Send

from shop_services.gateway.binding import Binder
from shop_services.gateway.calling import json_encoder, request_message, unless_gone
from shop_services.gateway.errors import NOSNIFF, send_body, send_json
from shop_services.gateway.exchange import Limits, Request
from shop_services.gateway.httpbody import content_type, raw_response
from shop_services.gateway.metadata import answer_headers
from shop_services.gateway.rules import Rule


class UnaryEndpoint:
    """Serves one rule of an RPC with one request and one response."""

    def __init__(self, rule: Rule, channel: grpc.aio.Channel, limits: Limits) -> None:
        self._name = str(rule)  # asked for by each request
        self._limits = limits
        self._binder = Binder(rule)
        self._encode = json_encoder(rule)
        self._raw = raw_response(rule)
        request = message_factory.GetMessageClass(rule.rpc.input_type)
        response = message_factory.GetMessageClass(rule.rpc.output_type)
        self._call: Any = channel.unary_unary(
            rule.path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def __str__(self) -> str:
        return self._name

    async def serve(self, request: Request, send: Send) -> None:
        """Make the call and send its response; see `Endpoint`."""
        message, spent = await request_message(self._binder, request, self._limits)
        head = request.head
        timeout = max(0.0, self._limits.call_timeout(head.timeout) - spent)
        call = self._call(message, timeout=timeout, metadata=head.metadata)
        response = await unless_gone(call, call, request.receive, self._name)
        headers = answer_headers(await call.initial_metadata(), await call.trailing_metadata())
        if self._raw is None:
            await send_json(send, 200, headers, self._encode(response))
        else:
            body = self._raw(response)
            await send_body(send, 200, content_type(body), (*NOSNIFF, *headers), body.data)
