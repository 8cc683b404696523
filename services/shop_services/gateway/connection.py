"""A client's connection: uvicorn's, with an end to everything that a client can draw out or make too large.

uvicorn bounds the idle time of a connection, and nothing else: a head may be of any size and take for ever, an answer
that nobody reads is kept for ever, as is a connection that is closing. Deadlines are looked at once a second, for all
connections together (`Connections.sweep`), since a timer for each would cost more than the rest of this.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any

import httptools
from google.rpc import code_pb2
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shop_services.gateway.errors import Refusal
from shop_services.gateway.joining import Joining
from shop_services.gateway.pressure import Pressure, canned
from shop_services.gateway.rates import bucket_of


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """What a connection may take, in seconds and bytes."""

    most: int = 4096
    """Connections at once. For a new one the one that is idle for longest is closed; without such, it is refused."""
    by_address: int = 512
    """Connections of one address. Browsers open six; many people may share an address."""
    head: float = 10.0
    """For a TLS handshake; a request's head, from its first byte, or from the connection; the rest of a body unread."""
    head_bytes: int = 32 * 1024
    """nginx's default; Envoy's is 60 KiB."""
    headers: int = 100  # Envoy's default
    idle: float = 75.0
    """Between two requests: more than the 60 s that proxies keep theirs, so that they close first."""
    stalled: float = 20.0
    """While a client reads nothing, and the answer does not fit into what the system keeps."""
    lingering: float = 2.0
    """In which what is still being sent is read, and thrown away, after an answer that was the last."""
    closing: float = 10.0
    """For the rest of an answer after the connection was closed here."""
    pipelined: int = 16
    """Requests that are sent ahead."""
    bodies: int = 256 * 1024 * 1024
    """Bytes of the bodies of all requests in progress."""


_OTHER_FILES = 128
"""Files of the process that are no client's."""


class _Awaits(Enum):
    """What the peer is to do next, and has a deadline for; SERVED: it is our turn."""

    HEAD = 1
    REQUEST = 2
    REST = 3
    SERVED = 4


class Connections:
    """What the connections of one server share: their number, who is idle, the bounds, and who refuses requests."""

    def __init__(self, bounds: ConnectionBounds | None = None, pressure: Pressure | None = None) -> None:
        self.bounds = bounds or ConnectionBounds()
        self.pressure = pressure
        self.by_address: Counter[bytes] = Counter()
        self.idle: dict[Connection, None] = {}  # in the order in which they became so
        self.held = 0
        """Bytes of bodies that are kept."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        bound = self.bounds.most
        self.most = bound if files == resource.RLIM_INFINITY else max(1, min(bound, files - _OTHER_FILES))
        """Connections at once, of which each is a file."""

    def sweep(self, connections: Collection[Any], now: float) -> None:
        """End what is overdue. `now` is the event loop's time."""
        for connection in tuple(connections):
            connection.look(now)


class Connection(HttpToolsProtocol):
    """One connection of a server; `among` are all of them."""

    def __init__(self, *arguments: Any, among: Connections, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._among = among
        self._bounds = among.bounds
        self._pressure = among.pressure
        self._address = b""
        self._bucket: bytes | None = None  # of the address, unless it speaks for others
        self._awaits = _Awaits.HEAD
        self._due = inf
        self._head_bytes = 0  # received since the head began, or more
        self._head_begun = False
        self._whole = True  # the last request has been received to its end
        self._lingering = False
        self._stalled_at = inf
        self._closing_at = inf
        self._held = 0
        self._refusal = _MALFORMED
        self._serving: Any = None  # the cycle of the request that is being served; `cycle` is that of the last one read

    # Connecting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        among, bounds = self._among, self._bounds
        peer = self.client[0] if self.client else ""
        self._address = bucket_of(peer)
        among.by_address[self._address] += 1
        self._await(_Awaits.HEAD, bounds.head)
        if self._pressure is not None and not self._pressure.rates.proxies.trusts(peer):
            self._bucket = self._address
            if self._pressure.rates.limits and among.by_address[self._address] > bounds.by_address:
                self._refuse(_TOO_MANY_OF_ONE)
                return
        if len(self.connections) > among.most:
            if among.idle:
                longest = next(iter(among.idle))
                del among.idle[longest]  # now: it is lost later, and many that come together each need one to go
                longest.transport.close()
            else:
                self._refuse(_TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it to its time if the connection broke
        if (serving := self._serving) is not None and not serving.response_complete:
            serving.disconnected = True  # uvicorn tells the last one alone, which may be one that was sent ahead
            serving.message_event.set()
        among = self._among
        among.idle.pop(self, None)
        among.by_address[self._address] -= 1
        if not among.by_address[self._address]:
            del among.by_address[self._address]
        self._let_go()

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._whole and self._awaits is not _Awaits.SERVED:
            pressure = self._pressure
            if pressure is not None and (answer := pressure.unread(self._bucket, data)) is not None:
                self.transport.write(answer)
                if self._awaits is _Awaits.REQUEST:  # its place among the idle is of no matter here, and takes time
                    self._due = self.loop.time() + self._bounds.idle
                else:
                    self._await(_Awaits.REQUEST, self._bounds.idle)
                return
            if self._awaits is _Awaits.REQUEST:
                self._await(_Awaits.HEAD, self._bounds.head)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_begun and self._head_bytes > self._bounds.head_bytes and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._whole = False
        self._head_begun = True
        if len(self.pipeline) >= self._bounds.pipelined:
            raise httptools.HttpParserError("too many requests sent ahead")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        bounds = self._bounds
        if self._head_bytes > bounds.head_bytes or len(self.headers) > bounds.headers:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > bounds.head_bytes or len(self.headers) > bounds.headers:
                self._refusal = _TOO_LARGE
                raise httptools.HttpParserError("the head is too large")
        self._head_begun = False
        super().on_headers_complete()
        if self.pipeline:
            self.flow.resume_reading()  # uvicorn reads on when the answer is whole: too late to see a client leave

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if not self.cycle.response_complete:
            self._held += len(body)
            self._among.held += len(body)
            if self._among.held > self._bounds.bodies:
                self._refuse(_NO_ROOM)

    def on_message_complete(self) -> None:
        self._whole = True
        self._head_bytes = 0
        super().on_message_complete()
        if self._lingering:
            self.transport.close()
        elif self._awaits is _Awaits.REST:
            self._await(_Awaits.REQUEST, self._bounds.idle)

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    # Serving

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._await(_Awaits.SERVED, inf)
        self._serving = cycle
        if self._pressure is not None and (answer := self._pressure.admit(cycle.scope)) is not None:
            head, end, _ = answer.partition(b"\r\n\r\n")
            if not cycle.keep_alive:
                answer = answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
            self.transport.write(head + end if cycle.scope["method"] == "HEAD" else answer)
            cycle.response_started = cycle.response_complete = True  # what is left of the request goes by unread
            if not cycle.keep_alive:
                self._end()
            self.on_response_complete()
            return
        bodiless, unchunked = cycle.scope["method"] == "HEAD", cycle.scope["http_version"] == "1.0"
        cycle.transport = Joining(self.transport, self.loop, self._end, bodiless=bodiless, unchunked=unchunked)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self._held:
            self._let_go()
        if self._lingering:
            return
        if not self.pipeline:
            if not self._whole:
                self._await(_Awaits.HEAD if self._head_begun else _Awaits.REST, self._bounds.head)
            else:
                self._await(_Awaits.REQUEST, self._bounds.idle)
        super().on_response_complete()
        self._unset_keepalive_if_required()  # a timer for each answer is what `look` is instead of

    def pause_writing(self) -> None:
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_at = inf
        super().resume_writing()

    # Ending

    def look(self, now: float) -> None:
        """End the connection if it is overdue."""
        if self.transport.is_closing():
            self._closing_at = min(self._closing_at, now)
            if now - self._closing_at > self._bounds.closing:
                self.transport.abort()
        elif now - self._stalled_at > self._bounds.stalled:
            self.transport.abort()
        elif now > self._due:
            if self._awaits is _Awaits.HEAD and self._head_begun:
                self._refuse(_LATE)
            else:
                self.transport.close()

    def _await(self, what: _Awaits, seconds: float) -> None:
        self._awaits = what
        self._due = self.loop.time() + seconds
        if what is _Awaits.REQUEST:
            self._among.idle.pop(self, None)
            self._among.idle[self] = None
        else:
            self._among.idle.pop(self, None)

    def _refuse(self, answer: bytes) -> None:
        """Close, with that answer, unless it would be taken for the one to an earlier request."""
        if self._lingering or self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._head_begun or self.pipeline or cycle.response_started:
                self.transport.close()
                return
            cycle.disconnected = True  # it is about the request in progress
            cycle.message_event.set()
        self.transport.write(answer)
        self._end()

    def _end(self) -> None:
        """Close after the last answer; if the client is not done with sending, read on for a while.

        RFC 9112, section 9.6: a server that closes at once what it has not read resets the connection, and the client
        may lose the answer by that.
        """
        if self._whole or self.transport.is_closing():
            self.transport.close()
            return
        self._lingering = True
        if self.transport.can_write_eof():  # not so with TLS, where the answer's own word that it is the last has to do
            self.transport.write_eof()
        self.flow.resume_reading()
        self._await(_Awaits.REST, self._bounds.lingering)

    def _let_go(self) -> None:
        self._among.held -= self._held
        self._held = 0


def _closing(code: int, message: str, http_status: int, retry_after: bytes = b"") -> bytes:
    return canned(Refusal.of(code, message, http_status=http_status), retry_after=retry_after, close=True)


_MALFORMED = _closing(code_pb2.INVALID_ARGUMENT, "this is no HTTP/1.1 request", 400)
_LATE = _closing(code_pb2.DEADLINE_EXCEEDED, "the head of the request did not arrive in time", 408)
_TOO_LARGE = _closing(code_pb2.RESOURCE_EXHAUSTED, "the head of the request is too large", 431)
_TOO_MANY_OF_ONE = _closing(code_pb2.RESOURCE_EXHAUSTED, "this address has too many connections", 429, b"1")
_TOO_MANY = _closing(code_pb2.UNAVAILABLE, "the gateway has too many connections", 503, b"1")
_NO_ROOM = _closing(code_pb2.UNAVAILABLE, "the gateway holds too many bodies of requests", 503, b"1")
