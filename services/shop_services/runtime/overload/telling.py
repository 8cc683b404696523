"""Refusals are not logged one by one: a line costs more than the refusal. This tells of them now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import structlog

EVERY = 5.0
"""Seconds between two lines."""

_log = structlog.get_logger(__name__)


class Timer(Protocol):
    """What `Later` returns: it can be cancelled."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function after so many seconds."""


class Telling:
    """Writes `event` with how often `refused` was called since the last line, at most one each five seconds.

    The first is told at once, what comes in the next five seconds when they have passed; `close` tells what is left.
    """

    def __init__(self, event: str, later: Later | None = None) -> None:
        self._event = event
        self._later = later
        self._count = 0
        self._known: dict[str, Any] = {}
        self._timer: Timer | None = None

    def refused(self, **known: object) -> None:
        """One more was refused; the line has what is `known` of the last. To be called in an event loop."""
        self._count += 1
        self._known = known
        if self._timer is None:
            self._tell()

    def close(self) -> None:
        """Tell what was not told yet, and leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write()

    def _tell(self) -> None:
        self._timer = None
        if self._write():
            later = self._later or asyncio.get_running_loop().call_later
            self._timer = later(EVERY, self._tell)

    def _write(self) -> bool:
        if not self._count:
            return False
        _log.warning(self._event, refused=self._count, **self._known)
        self._count = 0
        return True
