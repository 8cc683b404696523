"""The messages of one topic that are in the memory of a relay, and how publishing them goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from random import Random

import structlog

from shop_services.messaging.outbox_rows import Claimed
from shop_services.messaging.retry import RetryPolicy

MEMORY = 2048
"""How many committed messages of a topic wait in memory at most."""
PROBES = 8
"""How many messages are being published at a time while it is not known whether the topic is well again."""
BACKOFF = RetryPolicy(first=0.1, longest=3.0)

_log = structlog.get_logger(__name__)


class Lane:
    """One topic. When it is full or away it pauses, for longer each time, and holds up no other.

    While it pauses its messages stay here until their claims end: the table keeps them, and a sweep finds them again.
    """

    def __init__(self, topic: str, rng: Random) -> None:
        self.topic = topic
        self.sending = 0
        self._first: deque[Claimed] = deque()  # swept, or tried before
        self._committed: deque[Claimed] = deque()
        self._rng = rng
        self._failures = 0
        self._paused_at = 0.0
        self._paused_until = 0.0

    def __len__(self) -> int:
        return len(self._first) + len(self._committed)

    def offer(self, row: Claimed, now: datetime) -> None:
        """Take a row that was just committed, if there is room."""
        if len(self._committed) == MEMORY:
            if self._committed[0].until > now:
                return
            self._committed.popleft()
        self._committed.append(row)

    def put_first(self, row: Claimed) -> None:
        """Take a row that is older than those that will be offered."""
        self._first.append(row)

    def head(self, now: datetime) -> Claimed | None:
        """The row to send next, if one may be sent now. Rows whose claim has ended are forgotten: others send them."""
        if self.pause() > 0 or (self._failures and self.sending >= PROBES):
            return None
        while queue := self._first or self._committed:
            if queue[0].until > now:
                return queue[0]
            queue.popleft()
        return None

    def pop(self) -> None:
        """Take the head away."""
        (self._first or self._committed).popleft()

    def clear(self) -> Iterator[Claimed]:
        """Take all away."""
        for queue in (self._first, self._committed):
            yield from queue
            queue.clear()

    @property
    def proven(self) -> bool:
        """Whether the latest that is known of the topic is good."""
        return not self._failures

    @property
    def busy(self) -> bool:
        """Whether it has old rows to send that wait for nothing but their turn."""
        return bool(self._first) and self.pause() <= 0

    def pause(self) -> float:
        """Seconds until the pause ends; none, or less, if there is no pause."""
        return self._paused_until - time.monotonic()

    def failed(self, began: float, error: Exception) -> None:
        """Note that what was begun at `began`, by the monotonic clock, failed.

        What began before the latest pause says nothing new: many failures at a time count once.
        """
        if began < self._paused_at:
            return
        if not self._failures:
            _log.warning("relay_paused", topic=self.topic, error=type(error).__name__, message=str(error))
        self._failures += 1
        self._paused_at = time.monotonic()
        self._paused_until = self._paused_at + BACKOFF.delay(self._failures, self._rng)

    def worked(self, began: float) -> None:
        """Note that what was begun at `began` succeeded."""
        if self._failures and began >= self._paused_at:
            _log.info("relay_resumed", topic=self.topic)
            self._failures = 0
