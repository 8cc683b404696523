"""How often a failing message is tried, and how long it waits in between."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter. Times are in seconds.

    Attempt n + 1 comes `first * factor ** (n - 1)` after the nth failed, never more than `longest`, each give or take
    the part `jitter` of it (gRFC A6 uses 0.2). After `attempts` failures the message is given up. Deliveries whose
    worker died, or was stopped before it was done, count as attempts.

    Raises:
        ValueError: a number makes no sense.
    """

    attempts: int = 10
    first: float = 0.1
    factor: float = 2.0
    longest: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be 1 or more")
        if not (0 < self.first <= self.longest and self.factor >= 1 and 0 <= self.jitter < 1):
            raise ValueError("needs 0 < first <= longest, factor >= 1 and 0 <= jitter < 1")

    def delay(self, failures: int, rng: Random) -> float:
        """Seconds to wait after so many failures, 1 or more."""
        doublings = min(failures - 1, 64)  # beyond that a float could overflow, and `longest` is reached
        return min(self.first * self.factor**doublings, self.longest) * rng.uniform(1 - self.jitter, 1 + self.jitter)
