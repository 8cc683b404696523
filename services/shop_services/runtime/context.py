"""The call being served, known to whatever runs for it: its request id and the time it has left."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic

REQUEST_ID = "x-request-id"
"""The metadata key of a request's id, in and out."""

_ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One call being served. `deadline` is on the clock of `time.monotonic`; None: the caller set none."""

    request_id: str
    method: str
    deadline: float | None = None

    def remaining(self, now: Callable[[], float] = monotonic) -> float | None:
        """Seconds until the deadline, never negative."""
        return None if self.deadline is None else max(0.0, self.deadline - now())


_current: ContextVar[RequestContext | None] = ContextVar("shop_request", default=None)


def current() -> RequestContext | None:
    """The call being served by this task, or None outside of one (a worker, a start)."""
    return _current.get()


def enter(context: RequestContext) -> None:
    """Make `context` the current one of this task. A call is a task of its own, so nothing needs to be put back."""
    _current.set(context)


@contextmanager
def entered(context: RequestContext) -> Iterator[None]:
    """Make `context` the current one inside of the block, for tasks that serve one thing after another."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def new_request_id() -> str:
    """A random id of 16 hex digits."""
    return secrets.token_hex(8)


def accept_request_id(sent: str | bytes | None) -> str:
    """The id that the caller sent, or a new one if it sent none, or one that is too long or odd to be logged."""
    return sent if isinstance(sent, str) and _ACCEPTED.fullmatch(sent) else new_request_id()
