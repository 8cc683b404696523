"""What is asked for, and how often: a few things all the time, most hardly ever."""

from __future__ import annotations

import itertools
from random import Random


def trace(things: int, length: int, rng: Random) -> list[int]:
    """`length` draws among so many things, the first of which is number 0. Number k is drawn 1 ÷ (k + 1) times as often
    as number 0: Zipf's law with the exponent 1."""
    weights = itertools.accumulate(1 / rank for rank in range(1, things + 1))
    return rng.choices(range(things), cum_weights=list(weights), k=length)
