"""How long a copy lives, and when to look for a newer one before it dies. Pure but for the clocks and the rng."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from shop_services.caching.arguments import MAX_TTL
from shop_services.caching.copies import Copy, V


class Lifetimes:
    """Copies live `ttl` seconds, those that know of no value `negative_ttl`; less up to the part `jitter` of it.

    The jitter lets copies of one moment die at different moments. In the part `refresh_ahead` at the end of its life a
    copy is refreshed early: from a moment in the first half of it, which every process draws for itself when it gets
    the copy, so that there is time to load. That is the "probabilistic early expiration" of Vattani et al. (XFetch,
    VLDB 2015), but drawn once a copy and not at every read, so that a hit costs no more than a comparison.

    Raises:
        ValueError: a number makes no sense.
    """

    def __init__(
        self,
        *,
        ttl: float,
        negative_ttl: float,
        jitter: float,
        refresh_ahead: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: Random,
    ) -> None:
        if not (0 < ttl <= MAX_TTL and 0 < negative_ttl <= MAX_TTL):
            raise ValueError(f"ttl {ttl}, negative_ttl {negative_ttl}: seconds, more than 0 and at most {MAX_TTL:,.0f}")
        if not (jitter >= 0 and refresh_ahead >= 0 and jitter + refresh_ahead < 1):
            raise ValueError(f"jitter {jitter}, refresh_ahead {refresh_ahead}: parts of a life, together less than 1")
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._jitter = jitter
        self._ahead = refresh_ahead
        self._clock = clock
        self._wall = wall
        self._rng = rng

    def loaded(self, copy: Copy[V]) -> Copy[V]:
        """A copy that was just loaded, with the times of its life."""
        return self._ending(copy, self._clock() + self._whole(copy) * (1 - self._jitter * self._rng.random()))

    def adopted(self, copy: Copy[V]) -> Copy[V] | None:
        """A copy of another process, which expires by the wall clock, with the times by ours; None if it has expired.

        Wall clocks that disagree let it live longer or less long, but never longer than one that was just loaded.
        """
        left = min(copy.expires - self._wall(), self._whole(copy))
        return self._ending(copy, self._clock() + left) if left > 0 else None

    def by_wall(self, copy: Copy[V]) -> float:
        """When the copy expires, in seconds since 1970."""
        return self._wall() + self.left(copy)

    def left(self, copy: Copy[V]) -> float:
        """Seconds that the copy has to live; 0 or less if it has expired."""
        return copy.expires - self._clock()

    def late(self, copy: Copy[V]) -> bool:
        """Whether the copy is in the part of its life in which it is refreshed."""
        return self.left(copy) <= self._whole(copy) * self._ahead

    def postponed(self, copy: Copy[V]) -> Copy[V]:
        """The copy, to be refreshed at a later moment of its life, should the refresh that begins now fail."""
        return replace(copy, refresh_at=copy.expires - self.left(copy) * self._rng.uniform(0, 0.5))

    def _ending(self, copy: Copy[V], expires: float) -> Copy[V]:
        early = self._whole(copy) * self._ahead * self._rng.uniform(0.5, 1.0)
        return replace(copy, expires=expires, refresh_at=expires - early)

    def _whole(self, copy: Copy[V]) -> float:
        return self._negative_ttl if copy.value is None else self._ttl
