"""Which keys are this instance's, and since when: what it kept before it lost a key must not come back with it.

The ring is made of this instance, while the registry lists it as serving, and of those others that it is connected to:
as callers see it, who are connected to them likewise. When the ring changes, entries of keys that are not this
instance's in both the old ring and the new one are lost: others have answered for them, or will. They are all looked at
in the background, and any of them before it is used (`has_lost`), so that none is served meanwhile.

That also disposes of what was kept for others: while views of the ring differ, for some milliseconds when it changes,
an instance is asked to answer for a key that it does not think its own, and does.

A process that stood still (SIGSTOP) for so long that its lease may have ended takes all for lost, and so does one that
is registered again after it was cut off from the registry for as long, or the registry was away. Two instances that
cannot reach each other, while callers reach both, do not notice: what one kept for the other is lost when they can, but
what the other had before is still there, until it expires or is set again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from grpc_registry import Instance
from shop_services.cache.domain import Entry
from shop_services.cache.neighbours import Connected, Neighbours
from shop_services.caching.ring import Ring

_RINGS_AT_MOST = 8
"""Past rings that are told apart. With more changes than these while entries are looked at, all of them are lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A ring that is over, and the last version that was given in its time."""

    ring: Ring
    last: int


class Share:
    """The part of the ring that belongs to the instance `instance_id`.

    `version` tells the last version that was given to an entry here; later ones get greater ones. `patience` is for how
    many seconds of `clock` this process may stand still and trust its entries.
    """

    def __init__(
        self,
        instance_id: str,
        neighbours: Neighbours,
        channel: Connected,
        version: Callable[[], int],
        *,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self._id = instance_id
        self._neighbours = neighbours
        self._channel = channel
        self._version = version
        self._patience = patience
        self._clock = clock
        self._looked_at = clock()
        self._me: Instance | None = None
        self._others: tuple[Instance, ...] = ()
        self._registered = False
        self._cut_off = False
        self._ring = Ring()
        self.past: tuple[Past, ...] = ()
        """What entries are to be held against; empty: no entry is lost that was not forgotten."""
        self.changed = asyncio.Event()
        """Set when something was added to `past`."""
        neighbours.changed = self.look

    def __repr__(self) -> str:
        return f"<Share of {self._id} in {self._ring!r}, {len(self.past)} past>"

    def owner(self, namespace: str, key: str) -> Instance | None:
        """The other instance that a key belongs to; None: this one, which also answers if there is nobody at all."""
        self.look()
        owner = self._ring.owner(namespace, key)
        return None if owner is None or owner.id == self._id else owner

    def look(self) -> None:
        """Take what has changed since the last look, of which there must be some a second."""
        now, registered = self._clock(), self._neighbours.registered
        # Not when it is registered for the first time: callers may hear of that before it does itself.
        self._cut_off = self._cut_off or (self._registered and not registered)
        if now - self._looked_at > self._patience or (registered and self._cut_off):
            self._remember(Past(Ring(), self._version()))
        self._cut_off = self._cut_off and not registered
        self._looked_at, self._registered = now, registered
        me, others = self._neighbours.me, self._channel.instances
        if me is self._me and others is self._others:
            return
        self._me, self._others = me, others
        ring = Ring(others if me is None else (me, *others))
        if ring.members != self._ring.members:
            self._remember(Past(self._ring, self._version()))
            self._ring = ring

    def has_lost(self, namespace: str, entry: Entry) -> bool:
        """Whether the entry is from before a change that gave or took its key."""
        rings = [past.ring for past in self.past if entry.version <= past.last]
        return bool(rings) and not all(self._has(ring, namespace, entry.key) for ring in (self._ring, *rings))

    def settled(self, past: Collection[Past]) -> None:
        """Every entry was held against these, and forgotten if it was lost."""
        self.past = tuple(one for one in self.past if one not in past)

    def _remember(self, past: Past) -> None:
        if len(self.past) == _RINGS_AT_MOST:
            self.past, past = (), Past(Ring(), past.last)
        self.past = (*self.past, past)
        self.changed.set()

    def _has(self, ring: Ring, namespace: str, key: str) -> bool:
        owner = ring.owner(namespace, key)
        return owner is not None and owner.id == self._id
