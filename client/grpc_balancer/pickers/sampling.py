"""Drawing an index with a chance proportional to its weight, in constant time for any number of weights.

Walker's alias method as M. D. Vose arranged it (1991): every column of a table of width n holds a share of at most two
indices, so that one random number finds both the column and the side. Building the table is O(n).
"""

from __future__ import annotations

import random
from collections.abc import Sequence


class WeightedSampler:
    """Draws indices 0 to n - 1, with replacement. All weights must be positive."""

    __slots__ = ("_alias", "_equal", "_keep", "_random", "_size")

    def __init__(self, weights: Sequence[int], rng: random.Random) -> None:
        self._random = rng.random
        self._size = size = len(weights)
        self._alias = list(range(size))
        self._keep = [1.0] * size
        self._equal = min(weights) == max(weights)
        if self._equal:
            return
        mean = sum(weights) / size
        share = [weight / mean for weight in weights]
        small = [index for index, part in enumerate(share) if part < 1]
        large = [index for index, part in enumerate(share) if part >= 1]
        while small and large:
            less, more = small.pop(), large[-1]
            self._keep[less], self._alias[less] = share[less], more
            share[more] -= 1 - share[less]
            if share[more] < 1:
                small.append(large.pop())
        # What is left in either list has a share of 1 but for rounding, and keeps its whole column.

    def __call__(self) -> int:
        position = self._random() * self._size
        column = int(position)
        return column if self._equal or position - column < self._keep[column] else self._alias[column]

    def two(self) -> tuple[int, int]:
        """Two draws, different ones unless there is but one."""
        first, second = self(), self()
        if first == second:  # then any other: one index may have nearly all the weight, and be drawn again and again
            second = (first + 1 + int(self._random() * (self._size - 1))) % self._size
        return first, second


def per_weight(weights: Sequence[int]) -> list[float]:
    """What to multiply a load by to compare it with others': 1 for the mean weight.

    Equal weights share a number: of ten thousand endpoints, what a pick need not fetch from memory counts.
    """
    mean = sum(weights) / len(weights)
    factors = {weight: mean / weight for weight in weights}
    return [factors[weight] for weight in weights]
