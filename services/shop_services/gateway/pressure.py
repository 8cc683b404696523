"""What the gateway does when more is asked of it than it can do, or by one client than it may ask: it says so at once.

The decision is made where a request arrives (`connection`), in the same step in which it is read, so that requests that
come together are counted together. What is refused costs two system calls and no task, no log line, and mostly not even
a look at its headers: only so is there time left for the others when five times too many come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shop_services.gateway.errors import JSON_HEADERS, RETRY, Refusal
from shop_services.gateway.exchange import WAITING
from shop_services.gateway.rates import Rates, seconds
from shop_services.runtime.errors import DOMAIN
from shop_services.runtime.overload import ConcurrencyLimit, LimitCounts, Telling

UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Who watches the gateway is always answered."""

STREAMS = 1000
"""Requests at once whose answer is a stream."""

_SLOT = "shop.slot"
_LATE = 504


class Pressure:
    """A limit of requests in progress and the rates of clients.

    A request is in progress until its answer begins, or until it is a stream's, which waits most of the time.
    """

    def __init__(self, limit: ConcurrencyLimit, rates: Rates) -> None:
        self.limit = limit
        self.rates = rates
        self.answering = 0
        """Requests whose answer has begun and goes on."""
        self._overloaded = Telling("overloaded")
        self._limited = Telling("rate_limited")
        detail = error_details_pb2.ErrorInfo(reason="OVERLOADED", domain=DOMAIN)
        too_much = Refusal.of(code_pb2.UNAVAILABLE, "the gateway has too much to do", detail)
        self._overload = canned(too_much, retry_after=b"1")  # a limit has changed ten times by then
        self._rate_limited: dict[bytes, bytes] = {}  # by Retry-After: as many as a bucket takes seconds to fill

    @property
    def collectors(self) -> Sequence[Collector]:
        """What it did, for Prometheus."""
        return LimitCounts(self.limit, lambda: self.answering, "shop_gateway"), _RateCounts(self.rates)

    def unread(self, bucket: bytes | None, data: bytes) -> bytes | None:
        """The answer to what has just come, if it is a request that must be refused; None: it has to be read first.

        `bucket` is that of its address, or None if there is no limit.
        """
        if self.limit.full:
            if _is_plain_get(data):
                self.limit.refused += 1
                return self._too_much()
        elif bucket is not None and (wait := self.rates.exhausted(bucket)) and _is_plain_get(data):
            return self._too_often(wait)
        return None

    def admit(self, scope: Scope) -> bytes | None:
        """Give a request a place, or return the answer that refuses it. What was admitted must be called for."""
        if scope["path"] in UNLIMITED:
            return None
        if scope["client"] and (peer := scope["client"][0]) != (
            client := self.rates.proxies.client(peer, scope["headers"])
        ):
            scope["client"] = (client, 0)
        if wait := self.rates.wait(scope):
            return self._too_often(wait)
        slot = self.limit.begin()
        if slot is None:
            return self._too_much()
        scope[_SLOT] = slot
        return None

    def around(self, app: ASGIApp) -> Relieved:
        """`app`, for requests that were admitted."""
        return Relieved(app, self)

    def close(self) -> None:
        """Tell of the refusals that were not told yet."""
        self._overloaded.close()
        self._limited.close()

    def _too_much(self) -> bytes:
        self._overloaded.refused(limit=self.limit.limit, in_progress=self.limit.in_progress)
        return self._overload

    def _too_often(self, wait: float) -> bytes:
        self.rates.limited += 1
        self._limited.refused()
        answer = self._rate_limited.get(after := seconds(wait))
        if answer is None:
            answer = self._rate_limited[after] = canned(_too_often(int(after)), retry_after=after)
        return answer


class Relieved:
    """An ASGI application around another: a request that `pressure` admitted gives its place back as it is answered."""

    def __init__(self, app: ASGIApp, pressure: Pressure) -> None:
        self.pressure = pressure
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and give its place back, if it has one, when the answer begins."""
        slot = scope.pop(_SLOT, None)
        if slot is None:
            await self._app(scope, receive, send)
            return

        pressure = self.pressure

        def begins(kind: str | None) -> None:
            slot.end(kind)
            pressure.answering += 1

        def waits() -> None:
            if slot.held:
                if pressure.answering >= STREAMS:
                    pressure.limit.refused += 1
                    raise Refusal.of(code_pb2.UNAVAILABLE, "the gateway has too many streams", headers=RETRY)
                begins(None)

        async def send_and_tell(message: Message) -> None:
            if slot.held and message["type"] == "http.response.start":
                status = message["status"]
                begins(scope.get("rpc", "") if status < 400 or status == _LATE else None)
            await send(message)

        scope[WAITING] = waits  # for a stream: it may be long before it begins
        try:
            await self._app(scope, receive, send_and_tell)
        finally:
            if slot.held:
                slot.end()
            else:
                pressure.answering -= 1


def canned(refusal: Refusal, *, retry_after: bytes = b"", close: bool = False) -> bytes:
    """The whole of a refusal as HTTP/1.1, for who answers outside of the application."""
    body = refusal.body()
    head = b"HTTP/1.1 %d %s\r\n%scontent-length: %d\r\n" % (
        refusal.http_status,
        _PHRASES[refusal.http_status],
        b"".join(b"%s: %s\r\n" % header for header in JSON_HEADERS),
        len(body),
    )
    wait = b"retry-after: %s\r\n" % retry_after if retry_after else b""
    return head + wait + (b"connection: close\r\n\r\n" if close else b"\r\n") + body


def _too_often(wait: int) -> Refusal:
    info = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain=DOMAIN)
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=wait))
    message = "this address, or this token, asks too often"
    return Refusal.of(code_pb2.RESOURCE_EXHAUSTED, message, info, retry)


_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


def _is_plain_get(data: bytes) -> bool:
    """Whether this is one whole GET, of nothing that is always answered, that says nothing of a body or of the end."""
    if not (data.startswith(b"GET ") and data.endswith(b"\r\n\r\n") and data.find(b"\r\n\r\n") == len(data) - 4):
        return False
    if data.startswith(_WATCHED):
        return False
    lower = data.lower()
    return not (
        b"content-length" in lower
        or b"transfer-encoding" in lower
        or b"close" in lower
        or b"upgrade" in lower
        or b"http/1.0" in lower
    )


_WATCHED = tuple(b"GET " + path.encode() for path in UNLIMITED)


class _RateCounts(Collector):
    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def collect(self) -> Iterator[Metric]:
        """The number of requests that came too often."""
        limited = CounterMetricFamily("shop_gateway_rate_limited", "Requests of clients that ask too often.")
        limited.add_metric([], self._rates.limited)
        yield limited
