"""Leaves a cache alone that does not answer, so that reads do not wait for it again and again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import structlog

from shop_services.caching.errors import CacheError

FAILURES = 3
"""So many failures in a row and the breaker opens."""
PAUSE = 1.0
"""Seconds, give or take a fifth, between two attempts while it is open."""

_log = structlog.get_logger(__name__)


class Breaker:
    """Closed: every attempt is made. Open: one a pause, until one works.

    Every attempt that `allows` grants is told of by `worked`, `refused` or `failed`. One of which nothing is ever told
    (it was cancelled) does no harm: an open breaker grants the next one a pause later anyway.
    """

    def __init__(self, name: str, clock: Callable[[], float], rng: Random) -> None:
        self._name = name
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._next = 0.0
        self._refused: set[type[CacheError]] = set()

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES

    def allows(self) -> bool:
        """Whether to make an attempt now; of an open breaker's only the first to ask after a pause may."""
        if not self.open:
            return True
        if self._clock() < self._next:
            return False
        self._pause()
        return True

    def worked(self) -> None:
        """An attempt was answered."""
        if self.open:
            _log.info("cache_resumed", cache=self._name)
        self._failures = 0

    def refused(self, error: CacheError) -> None:
        """An attempt was answered: the cache is well, but does not accept what it was asked. Logs one of a kind."""
        self.worked()
        if type(error) not in self._refused:
            self._refused.add(type(error))
            _log.warning("cache_refused", cache=self._name, error=type(error).__name__, message=str(error))

    def failed(self, error: BaseException) -> None:
        """An attempt was not answered, or not in time. Those that began before it opened prolong no pause."""
        if self.open:
            return
        self._failures += 1
        if self.open:
            self._pause()
            _log.warning("cache_paused", cache=self._name, error=type(error).__name__, message=str(error))

    def _pause(self) -> None:
        self._next = self._clock() + PAUSE * self._rng.uniform(0.8, 1.2)
