"""Telling whether a failed attempt can have reached a server, and the errors that we raise ourselves.

grpcio 1.85 does not say where a status comes from: code, details, `debug_error_string` and metadata of "failed to
connect" are the same whether our own connection failed, or a server passed on what *its* connection to somewhere met.
So the text counts only while this endpoint's channel is itself without a connection; a server's answer comes over one.

What else no server saw (a stream above a GOAWAY's last id, or refused) C-core repeats by itself on the same channel,
and that ends in success or in "failed to connect". Any other loss of a connection ("Socket closed", "Connection reset
by peer") may have come after the server read the request, and is not repeated.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from grpc import ChannelConnectivity, StatusCode
from grpc.aio import AioRpcError, Metadata

from grpc_balancer.load import Outcome

T = TypeVar("T")

LOCALLY_CANCELLED = "Locally cancelled by application!"
"""grpc.aio's own words for it."""

_ABANDONED = "Cancelled upon garbage collection!"

_NO_CONNECTION = ("failed to connect to all addresses", "errors resolving ", "DNS resolution failed")

_PREAMBLE = re.compile(
    r"(failed to connect to all addresses; last error: )?"
    r"([A-Z_]+: )?((ipv4|ipv6|unix):\S+: )?(Failed to connect to remote host: )?"
)


_BLAMED = frozenset(
    {
        StatusCode.DATA_LOSS,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.UNKNOWN,
    }
)
"""Statuses that Envoy counts as 5xx, less UNIMPLEMENTED, which all instances of a version share. RESOURCE_EXHAUSTED
(HTTP's 429) is none: callers who use up a quota, or send too large a message, could eject every instance by it."""


def outcome_of(code: StatusCode | None, details: str | None) -> Outcome:
    """What the status of an attempt says about its endpoint."""
    if code in _BLAMED:
        return Outcome.FAILED
    return Outcome.UNKNOWN if code is None or cancelled_here(code, details or "") else Outcome.SUCCEEDED


def never_reached(code: StatusCode | None, details: str | None, state: ChannelConnectivity) -> bool:
    """Whether a status proves that no server saw the call; `state` is that of the attempt's channel right after."""
    return (
        code is StatusCode.UNAVAILABLE
        and state is not ChannelConnectivity.READY
        and (details or "").startswith(_NO_CONNECTION)
    )


def cancelled_here(code: StatusCode | None, details: str) -> bool:
    """Whether we, or our caller, cancelled the call, and not its server."""
    return code is StatusCode.CANCELLED and details in (LOCALLY_CANCELLED, _ABANDONED)


def reason(details: str) -> str:
    """What is new in the details of a failed connection to an address that is known: `Connection refused`, mostly."""
    return _PREAMBLE.sub("", details, count=1)


def local_error(code: StatusCode, details: str) -> AioRpcError:
    """The error of a call that ended before, or without, an attempt."""
    return AioRpcError(code, Metadata(), Metadata(), details, "grpc_balancer: no endpoint took the call")


def answer_of(question: Coroutine[Any, Any, T]) -> T | None:
    """The answer of a finished call to `call.code()` and its like, which are coroutines but need not wait then."""
    try:
        question.send(None)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    question.close()
    return None
