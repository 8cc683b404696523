"""Changes that were acknowledged and need not be in the database yet, as values. Pure: no log, no database, no clock.

A pending state says which revisions of the database's row it may replace: the one that it began from, and those of the
states between, each of which may or may not have been written. A row with any other revision is in this state already,
or in a later one. So a state can be written by anyone, at any time and any number of times, and takes effect once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from shop_services.product.domain import Product
from shop_services.storage import KeptReply

MAX_REPLACED = 256
"""How many states of a product may wait for one of them to be written."""
MAX_BYTES = 512 * 1024
"""How long a pending state may be as a record, with the replies that it carries."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The latest state of a product: `product`, which, if it is `deleted`, is what it last was.

    `replaces` are the revisions that its row may have before this state is written, oldest first. `replies` answered
    the requests that led here since the last state that is known to be written.
    """

    product: Product
    deleted: bool = False
    replaces: tuple[int, ...] = ()
    replies: tuple[KeptReply, ...] = ()

    @classmethod
    def of(cls, row: Product) -> Pending:
        """What is in the database, as a state to begin from: there is nothing to write."""
        return cls(row)

    def then(self, after: Product, *, deleted: bool, reply: KeptReply | None) -> Pending:
        """The state after this one, in which the product is `after`; if that is the same, only the reply is new."""
        replies = self.replies if reply is None else (*self.replies, reply)
        if after == self.product and deleted == self.deleted:
            return replace(self, replies=replies)
        return Pending(after, deleted, (*self.replaces, self.product.revision), replies)

    def since(self, written: Pending) -> Pending:
        """This state without what is needless once `written`, which came before it or is the same, was written."""
        kept = {reply.key for reply in written.replies}
        replies = tuple(reply for reply in self.replies if reply.key not in kept)
        before = written.product.revision
        if before in self.replaces:
            return replace(self, replaces=self.replaces[self.replaces.index(before) :], replies=replies)
        if written.product == self.product and written.deleted == self.deleted:
            return replace(self, replaces=(), replies=replies)
        return replace(self, replies=replies)


class Step(enum.Enum):
    """What is left to do for a pending state."""

    UPDATE = enum.auto()
    DELETE = enum.auto()
    IN_PLACE = enum.auto()
    """Nothing: it was written before."""
    OVERTAKEN = enum.auto()
    """Nothing: the row is in a state that this one may not replace."""


def step(pending: Pending, row: Product | None) -> Step:
    """How to write `pending` where the row of its product is `row`; None: there is no row."""
    if row is None:
        return Step.IN_PLACE if pending.deleted else Step.OVERTAKEN
    if row.revision in pending.replaces:
        return Step.DELETE if pending.deleted else Step.UPDATE
    if row.revision == pending.product.revision and not pending.deleted:
        return Step.IN_PLACE
    return Step.OVERTAKEN
