"""One RPC with a stream of responses, as HTTP: lines of JSON, events, or the bytes of a body in pieces.

An answer begins with the first message, with the initial metadata that a service sends before it, or, for events, with
the first heartbeat. What fails before that is answered with its own status; what fails after it is told by the last
line or event, and where there is neither (the bytes of a body), by breaking the connection off.

Nothing is read ahead of the client: the next message is asked for when the last one was given to a connection with room
for it, so that a slow reader slows the service down, by gRPC's own flow control.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from google.protobuf import message_factory
from google.rpc import code_pb2
from starlette.types import Send

from shop_services.gateway.binding import Binder
from shop_services.gateway.calling import json_encoder, refusal_of, request_message, unless_gone
from shop_services.gateway.errors import NOSNIFF, Headers, Refusal
from shop_services.gateway.exchange import WAITING, BrokenOff, Limits, Request
from shop_services.gateway.framing import STYLES, Framed, Framing, Raw
from shop_services.gateway.httpbody import raw_response
from shop_services.gateway.metadata import answer_headers
from shop_services.gateway.negotiation import chosen
from shop_services.gateway.responses import EOF, PENDING, Responses
from shop_services.gateway.rules import Rule

# Nobody in between is to keep a stream, nor to collect it; the latter is how nginx is told.
_HEADERS: Headers = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"), *NOSNIFF)

_log = structlog.get_logger(__name__)


class Streams:
    """The streams in progress, which a server that stops need not wait for."""

    def __init__(self) -> None:
        self._live: set[_Stream] = set()
        self._ended = False

    def end(self) -> None:
        """End them, and all that come later."""
        self._ended = True
        for stream in tuple(self._live):
            stream.end()

    @contextmanager
    def having(self, stream: _Stream) -> Iterator[None]:
        """Count `stream` as one of them."""
        if self._ended:
            stream.end()
        self._live.add(stream)
        try:
            yield
        finally:
            self._live.remove(stream)


class StreamEndpoint:
    """Serves one rule of an RPC with one request and a stream of responses."""

    def __init__(self, rule: Rule, channel: grpc.aio.Channel, limits: Limits, streams: Streams) -> None:
        self.rule = rule
        self._limits = limits
        self._streams = streams
        self._binder = Binder(rule)
        encode, body_of = json_encoder(rule), raw_response(rule)
        self._raw = Raw(body_of) if body_of is not None else None
        self._framed = {media: Framed(style, encode) for media, style in STYLES.items()}
        request = message_factory.GetMessageClass(rule.rpc.input_type)
        response = message_factory.GetMessageClass(rule.rpc.output_type)
        self._call: Any = channel.unary_stream(
            rule.path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def __str__(self) -> str:
        return str(self.rule)

    async def serve(self, request: Request, send: Send) -> None:
        """Make the call and send its responses as they come; see `Endpoint`."""
        scope = request.scope
        framing = self._raw or self._framed[chosen(scope["headers"], tuple(self._framed))]
        message, spent = await request_message(self._binder, request, self._limits)
        head = request.head
        timeout = max(0.0, self._limits.stream_timeout(head.timeout) - spent)
        if (waiting := scope.get(WAITING)) is not None:
            waiting()
        call = self._call(message, timeout=timeout, metadata=head.metadata)
        async with Responses(call) as responses:
            stream = _Stream(responses, framing, send, self._limits, bodiless=scope["method"] == "HEAD")
            with self._streams.having(stream):
                await unless_gone(call, stream.run(str(self.rule)), request.receive, str(self.rule))


class _Stream:
    """A stream on its way to a client."""

    def __init__(self, responses: Responses, framing: Framing, send: Send, limits: Limits, *, bodiless: bool) -> None:
        self._responses = responses
        self._framing = framing
        self._send = send
        self._limits = limits
        self._bodiless = bodiless
        self._begun = False
        self._ended = False
        self._room = limits.stream_bytes

    def end(self) -> None:
        """Send no more responses: the gateway stops."""
        self._ended = True
        self._responses.cancel()

    async def run(self, rpc: str) -> None:
        """Send all there is.

        Raises:
            Refusal: it failed before it began.
            BrokenOff: it failed later, and there is no way to say so.
        """
        try:
            await self._forward()
            return
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._ended or (task is not None and task.cancelling()):
                raise
            refusal = Refusal.of(code_pb2.UNAVAILABLE, "the gateway stops: call again")
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error, rpc)
        except Refusal as error:
            refusal = error
        if not self._begun:
            raise refusal
        _log.info("stream_failed", rpc=rpc, code=refusal.status.code)
        last = self._framing.error(refusal)
        if last is None:
            raise BrokenOff(str(refusal))
        await self._put(last, more=False)

    async def _forward(self) -> None:
        while (response := await self._next()) is not EOF:
            piece = self._framing.message(response)
            self._room -= len(piece)
            if self._room < 0:
                what = f"the stream has more than {self._limits.stream_bytes} bytes"
                raise Refusal.of(code_pb2.RESOURCE_EXHAUSTED, what)
            await self._begin_with(response)
            await self._put(piece)
            if self._bodiless:
                break
        await self._begin_with(None)
        await self._put(self._framing.end, more=False)

    async def _next(self) -> Any:
        """The next response, or `EOF`, with heartbeats meanwhile. Raises `Refusal`: none came for too long."""
        now = asyncio.get_running_loop().time
        beat = self._limits.heartbeat if self._framing.heartbeat else math.inf
        late, quiet = now() + self._limits.idle, now() + beat
        while (response := await self._responses.next(min(late, quiet) - now())) is PENDING:
            if now() >= late:
                what = f"the stream had no message for {self._limits.idle:g} s"
                raise Refusal.of(code_pb2.DEADLINE_EXCEEDED, what)
            if self._framing.opens_early and (metadata := self._responses.early_metadata):
                await self._begin(None, metadata)
            if now() >= quiet:
                await self._begin(None, ())
                await self._put(self._framing.heartbeat)
                quiet = now() + beat
            if self._begun and self._bodiless:
                return EOF
        return response

    async def _begin_with(self, first: Any) -> None:
        if not self._begun:
            await self._begin(first, await self._responses.metadata())

    async def _begin(self, first: Any, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        if not self._begun:
            headers = (b"content-type", self._framing.content_type(first)), *_HEADERS, *answer_headers(metadata, ())
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _put(self, piece: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
