"""One RPC with one response, as HTTP: JSON in, the call, JSON out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import code_pb2
from starlette.types import Receive

from shop_services.gateway.binding import Binder
from shop_services.gateway.body import ClientGone, client_gone
from shop_services.gateway.errors import Refusal, failed_call, wrong_field
from shop_services.gateway.exchange import Answer, Request
from shop_services.gateway.metadata import answer_headers
from shop_services.gateway.protojson import FieldError, Printer, Unprintable, dumps, field_printer, message_printer
from shop_services.gateway.rules import Rule


class UnaryEndpoint:
    """Serves one rule of an RPC with one request and one response."""

    def __init__(self, rule: Rule, channel: grpc.aio.Channel) -> None:
        self.rule = rule
        self._binder = Binder(rule)
        self._print = _answer_printer(rule)
        request = message_factory.GetMessageClass(rule.rpc.input_type)
        response = message_factory.GetMessageClass(rule.rpc.output_type)
        self._call: Any = channel.unary_unary(
            rule.path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def __str__(self) -> str:
        return str(self.rule)

    async def answer(self, request: Request, receive: Receive) -> Answer:
        """Make the call and return its answer. The call is cancelled when the client leaves.

        Raises:
            Refusal: the request is wrong, or the call failed.
            ClientGone: the client left meanwhile.
        """
        try:
            message = self._binder.bind(request.captured, request.query, request.body)
        except FieldError as error:
            raise wrong_field(error) from None
        call = self._call(message, timeout=request.timeout, metadata=request.metadata)
        response = await _unless_gone(call, receive)
        try:
            body = dumps(self._print(response))
        except Unprintable as error:
            raise Refusal.of(code_pb2.INTERNAL, f"the response has no JSON: {error}") from None
        return Answer(body, answer_headers(await call.initial_metadata(), await call.trailing_metadata()))


async def _unless_gone(call: Any, receive: Receive) -> Any:
    watch = asyncio.ensure_future(client_gone(receive))
    watch.add_done_callback(lambda _: call.cancel())
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        headers = answer_headers(error.initial_metadata() or (), error.trailing_metadata() or ())
        raise failed_call(error, headers) from None
    except asyncio.CancelledError:
        if watch.done():
            raise ClientGone from None
        raise
    finally:
        watch.cancel()


def _answer_printer(rule: Rule) -> Printer:
    if rule.response_body is None:
        return message_printer(rule.rpc.output_type)
    name, printer = rule.response_body.name, field_printer(rule.response_body)
    if printer is None:
        return lambda message: getattr(message, name)
    return lambda message: printer(getattr(message, name))
