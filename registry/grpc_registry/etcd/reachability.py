"""Says when etcd goes away, comes back, or refuses us, and is otherwise quiet: an outage must not flood the logs."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

REMIND_SECONDS = 300.0


class Reachability:
    """Logs a warning when no member answers, one every five minutes while that lasts, and a line when it is over."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._fields = {"mesh_registry": name}  # of log records
        self._clock = clock
        self._asked = False
        self._away_since: float | None = None
        self._warned = 0.0
        self._refusals: dict[str, float] = {}  # when each reason was last said; there are only a few

    @property
    def reachable(self) -> bool:
        """Whether the last round of questions had an answer (true before the first)."""
        return self._away_since is None

    @property
    def state(self) -> str:
        """The same in a word or three, for a person."""
        return "not connected yet" if not self._asked else "reachable" if self.reachable else "unreachable"

    def failed(self, reason: str) -> None:
        """No member answered."""
        self._asked = True
        now = self._clock()
        if self._away_since is None:
            self._away_since = self._warned = now
            logger.warning("registry %s unreachable, keeping what is known: %s", self._name, reason, extra=self._fields)
        elif now - self._warned >= REMIND_SECONDS:
            self._warned = now
            logger.warning(
                "registry %s unreachable for %.0f s: %s", self._name, now - self._away_since, reason, extra=self._fields
            )

    def refused(self, reason: str) -> None:
        """A member answered that it will not: said at once and then every five minutes, per reason."""
        self.answered()
        now = self._clock()
        if now - self._refusals.get(reason, -REMIND_SECONDS) >= REMIND_SECONDS:
            self._refusals[reason] = now
            logger.warning("registry %s refuses: %s", self._name, reason, extra=self._fields)

    def answered(self) -> None:
        """A member answered, be it yes or no."""
        self._asked = True
        if self._away_since is not None:
            logger.info(
                "registry %s reachable again after %.1f s",
                self._name,
                self._clock() - self._away_since,
                extra=self._fields,
            )
            self._away_since = None
