"""What the gateway says when it refuses; `tests/integration/gateway` has when it does."""

from __future__ import annotations

import json
from typing import Any

from structlog.testing import capture_logs

from shop_services.gateway.pressure import Pressure
from shop_services.gateway.rates import Proxies, Rates
from shop_services.runtime.overload import Bounds, ConcurrencyLimit

INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "shop", "metadata": {}}


def scope() -> dict[str, Any]:
    return {"path": "/v1/products", "method": "GET", "client": ("192.0.2.1", 1), "headers": ()}


def read(answer: bytes | None) -> tuple[str, dict[str, str], Any]:
    """The first line, the headers and the JSON of an answer."""
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers.pop("content-length") == str(len(body))
    return first, headers, json.loads(body)


async def test_who_asks_too_often_is_told_why_and_for_how_long() -> None:
    """A reason for programs, and the wait both as a header and as a detail; the log has the whole burst in the end."""
    pressure = Pressure(ConcurrencyLimit(), Rates(0.5, 1, Proxies(""), now=lambda: 100.0))
    assert pressure.admit(scope()) is None
    with capture_logs() as lines:
        answers = [pressure.admit(scope()) for _ in range(3)]
        pressure.close()
    assert answers[0] is answers[2]  # prepared once
    first, headers, body = read(answers[0])
    assert first == "HTTP/1.1 429 Too Many Requests"
    assert headers == {
        "content-type": "application/json",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "retry-after": "2",
    }
    assert body["details"] == [
        {**INFO, "reason": "RATE_LIMITED"},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
    ]
    assert [(line["event"], line["refused"]) for line in lines] == [("rate_limited", 1), ("rate_limited", 2)]


async def test_what_is_too_much_is_told_so() -> None:
    """With its reason, and when to come back."""
    limit = ConcurrencyLimit(Bounds(least=1, first=1, most=1))
    pressure = Pressure(limit, Rates(0, 1, Proxies("")))
    assert pressure.admit(scope()) is None
    first, headers, body = read(pressure.admit(scope()))
    pressure.close()
    assert (first, headers["retry-after"]) == ("HTTP/1.1 503 Service Unavailable", "1")
    assert body["details"] == [{**INFO, "reason": "OVERLOADED"}]
