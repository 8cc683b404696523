"""Slow start: how much of its weight an endpoint has while it is new among others that are not.

A process that just started has cold caches and code that has not run yet, so its share of the calls grows with its
age, as in Envoy: `max(10%, (age / window) ^ (1 / aggression))`, with an aggression of 1 a straight line. In steps of a
tenth, since each step makes a new picker.
"""

from __future__ import annotations

TENTHS = 10
"""What an endpoint has that is warm."""

WINDOW = 10.0
"""Seconds that an endpoint takes to warm up, if nobody says otherwise."""


def tenths(age: float, window: float = WINDOW, aggression: float = 1.0) -> int:
    """How many tenths of its weight an endpoint of `age` seconds has, in a window of `window` seconds: 1 to 10.

    An aggression above 1 gives newcomers more in the beginning.
    """
    if age >= window:
        return TENTHS
    # Envoy: min_weight_percent is 10 by default. The tiny addition is for 0.7 * 10 and its like.
    return max(1, int(TENTHS * max(0.0, age / window) ** (1 / aggression) + 1e-9))
