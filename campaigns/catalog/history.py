"""What was written and read when, and the check that no read was older than it may be. Pure.

A product's states are numbered from 0, the one it was created with, and are written one after the other by one client.
Times are those of one monotonic clock, in seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class States:
    """The states of one product in their order: when writing each began, when it was acknowledged, its category.

    A state whose writing was never acknowledged may be seen, or not, ever after.
    """

    begun: list[float]
    acknowledged: list[float]
    categories: list[str]
    """`acknowledged` may be shorter by one: the last state is still being written."""

    @classmethod
    def first(cls, category: str, now: float) -> States:
        """Those of a product that has just been created."""
        return cls([now], [now], [category])

    def begin(self, category: str, now: float) -> int:
        """The number of the state that is now being written. The one before must be acknowledged."""
        if len(self.acknowledged) != len(self.begun):
            raise RuntimeError("the state before is still being written")
        self.begun.append(now)
        self.categories.append(category)
        return len(self.begun) - 1

    def end(self, now: float) -> None:
        """The state being written is acknowledged."""
        self.acknowledged.append(now)

    def visible(self, began: float, ended: float, bound: float) -> range:
        """The states that a read in that time may show if it may be out of date by `bound`."""
        oldest = max(0, bisect_right(self.acknowledged, began - bound) - 1)
        return range(oldest, bisect_right(self.begun, ended))


@dataclass(frozen=True, slots=True)
class Read:
    """One answer: the number of the state in which it showed each product. `category` is empty if asked by ids."""

    began: float
    ended: float
    shown: Mapping[str, int]
    category: str = ""


@dataclass(frozen=True, slots=True)
class Breach:
    """An answer that nobody should have got. `late` is by how many seconds it was out of date, beyond the bound."""

    what: str
    product: str
    how: str
    late: float = 0.0

    def __str__(self) -> str:
        return f"{self.product}: {self.how}"


STALE, UNWRITTEN, STILL_LISTED, NOT_LISTED = (
    "states shown that were replaced too long ago",
    "states shown that were not written",
    "products listed in a category that they left too long ago",
    "products missing in a category that they entered long enough ago",
)
BREACHES = (STALE, UNWRITTEN, STILL_LISTED, NOT_LISTED)


@dataclass
class History:
    """All that was written and read."""

    products: dict[str, States] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)

    def breaches(self, bound: float, list_bound: float) -> Iterator[Breach]:
        """What must not have been shown, if products may be out of date by `bound` and lists by `list_bound`."""
        for read in self.reads:
            if read.category:
                yield from self._of_list(read, list_bound)
            else:
                for product, number in read.shown.items():
                    yield from _of_state(product, self.products[product], number, read, bound)

    def staleness(self) -> list[float]:
        """By how much each state that was shown was out of date, in seconds; 0 if it was not."""
        return [
            _staleness(self.products[product], number, read.began)
            for read in self.reads
            for product, number in read.shown.items()
        ]

    def _of_list(self, read: Read, bound: float) -> Iterator[Breach]:
        for product, states in self.products.items():
            visible = states.visible(read.began, read.ended, bound)
            categories = {states.categories[number] for number in visible}
            number = read.shown.get(product)
            if number is None:
                if categories == {read.category}:
                    yield Breach(NOT_LISTED, product, f"not in {read.category!r}, with states {visible} in question")
            elif read.category not in categories:
                yield Breach(STILL_LISTED, product, f"in {read.category!r}, with states {visible} in question")
            else:
                yield from _of_state(product, states, number, read, bound)


def _of_state(product: str, states: States, number: int, read: Read, bound: float) -> Iterator[Breach]:
    visible = states.visible(read.began, read.ended, bound)
    if number < visible.start:
        late = _staleness(states, number, read.began)
        yield Breach(STALE, product, f"state {number}, replaced {late:.3f} s before the read began", late - bound)
    elif number >= visible.stop:
        yield Breach(UNWRITTEN, product, f"state {number}, and {visible.stop - 1} is the latest that was written")


def _staleness(states: States, number: int, began: float) -> float:
    following = states.acknowledged[number + 1 : number + 2]
    return max(0.0, began - following[0]) if following else 0.0
