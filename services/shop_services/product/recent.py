"""What changed lately, so that it can be told of any copy whether it still is what the catalog holds.

Every copy says as of which change of the catalog it was read. It is current if nothing has touched its key since, as
far as is known; and what is known must be no older than the bound of staleness. Both are asked at the moment of
reading, so no read is older than the bound, whatever caches, servers and messages did: a copy that a slow reader stored
late, one that came back with a server, and one whose invalidation was lost are all told by the same two numbers.

Keys are "product/ID" for a product, "category/NAME" for the lists of a category, and "category/" for those of all.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shop_services.product.domain import Change, ChangeType

PRODUCT = "product/"
CATEGORY = "category/"

LIMIT = 20_000
"""How many keys are remembered: what some 10,000 changes touch, which is as many as the log keeps."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What the change `revision` touched: a product, and the lists of some categories; None: perhaps of any."""

    revision: int
    product_id: str
    categories: frozenset[str] | None

    @classmethod
    def by(cls, change: Change) -> Touched:
        """What `change` touched."""
        product = change.product
        return cls.of(change.revision, change.type, product.id, product.category, change.previous_category)

    @classmethod
    def of(cls, revision: int, kind: ChangeType, product_id: str, category: str, previous: str | None) -> Touched:
        """The same of a change whose product is in `category`, and if it was updated was in `previous` before."""
        if kind is not ChangeType.UPDATED:
            return cls(revision, product_id, frozenset((category,)))
        # A change that was logged before categories were says not which one the product left.
        return cls(revision, product_id, None if previous is None else frozenset((category, previous)))


class RecentChanges:
    """The latest change of each key, complete from `floor` to `head`; some later ones may be known as well.

    `bound` is how old, in seconds of `clock`, the latest proof may be that nothing else has changed.
    """

    def __init__(self, bound: float, *, clock: Callable[[], float] = time.monotonic, limit: int = LIMIT) -> None:
        self.head = 0
        self.floor = 0
        self.ceiling = 0
        """The highest revision that the database itself was seen at."""
        self.seen_at = float("-inf")
        """When the latest look began that found the catalog to be at `head`."""
        self._bound = bound
        self._clock = clock
        self._limit = limit
        self._needed = 0
        self._every_list = 0  # the latest change that may have touched any list
        self._latest: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RecentChanges {self.floor} to {self.head}, {len(self._latest)} keys, seen {self.age:.1f} s ago>"

    @property
    def age(self) -> float:
        """Seconds since the latest proof."""
        return self._clock() - self.seen_at

    @property
    def usable(self) -> bool:
        """Whether any copy may be shown: enough is known, and it was found out within the bound."""
        return self._clock() - self.seen_at <= self._bound and self.head >= self._needed

    def is_current(self, key: str, as_of: int) -> bool:
        """Whether a copy of what `key` names, read as of the change `as_of`, may be shown."""
        if not self.usable:
            return False
        # A copy from beyond all that the database was seen at is of another catalog, or of one that was since restored.
        if not self.floor <= as_of <= self.ceiling:
            return False
        if self._latest.get(key, 0) > as_of:
            return False
        return as_of >= self._every_list or not key.startswith(CATEGORY)

    def told(self, touched: Touched) -> None:
        """Take note of a change that was committed, before the log is looked at: one of this process, usually."""
        if touched.revision <= self.head:
            return
        self._note(touched)
        if touched.revision == self.head + 1:
            self.head = touched.revision

    def saw(self, revision: int) -> None:
        """Take note that the database answered as of `revision`."""
        self.ceiling = max(self.ceiling, revision)

    def require(self, revision: int) -> None:
        """Hold nothing to be current until all changes up to `revision`, which the database has, are known."""
        self._needed = max(self._needed, revision)

    def looked(self, began: float, after: int, revision: int, found: Sequence[Touched], seen: int = 0) -> bool:
        """Take what a look at the log, which began at `began`, found after the change `after`: its first changes in
        order, and that the catalog is at `revision`. True if there is nothing more to look for.

        `seen` is the `ceiling` as of when it began: a catalog that is not there any more was restored.
        """
        if revision < max(after, seen):
            self._went_back(revision)
            return False
        first = found[0].revision if found else revision + 1
        if first > self.head + 1:  # what came between is no longer kept
            self._forget(first - 1)
        for touched in found:
            self._note(touched)
        self.head = max(self.head, found[-1].revision if found else revision)
        self.saw(revision)
        if self.head < revision:
            return False
        self.seen_at = began
        return True

    def _went_back(self, revision: int) -> None:
        """The database was restored: until it has passed where it was, copies of both histories look alike."""
        self._forget(max(self.ceiling, self.head) + 1)
        self.head = self.ceiling = revision
        self._needed = 0
        self.seen_at = float("-inf")

    def _forget(self, floor: int) -> None:
        """Know nothing of the changes up to `floor`; what was told of later ones stays."""
        self.floor = max(self.floor, floor)
        self._latest = OrderedDict((key, latest) for key, latest in self._latest.items() if latest > floor)

    def _note(self, touched: Touched) -> None:
        self.saw(touched.revision)
        self._touch(PRODUCT + touched.product_id, touched.revision)
        self._touch(CATEGORY, touched.revision)
        if touched.categories is None:
            self._every_list = max(self._every_list, touched.revision)
        else:
            self._touch_all((CATEGORY + category for category in touched.categories), touched.revision)
        while len(self._latest) > self._limit:
            _, oldest = self._latest.popitem(last=False)
            self.floor = max(self.floor, oldest)

    def _touch_all(self, keys: Iterable[str], revision: int) -> None:
        for key in keys:
            self._touch(key, revision)

    def _touch(self, key: str, revision: int) -> None:
        self._latest[key] = max(revision, self._latest.get(key, 0))
        self._latest.move_to_end(key)
