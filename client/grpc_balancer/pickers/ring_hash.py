"""`ring_hash`: calls with the same key go to the same endpoint, for its caches' sake.

gRFC A42 and A76: the key is the value of a metadata header. Endpoints have points on a ring, as many as their weights
say, and a key belongs to the next point clockwise. An endpoint that comes takes over just the keys before its points,
one that goes leaves them to the next ones, and all other keys stay where they are.

**How many points.** A42 fills the ring up to its least size and no further, so that with every endpoint that comes all
others lose points, and twice as many keys move as should. Here an endpoint of the default weight has 256 points while
that fits between the least and the greatest size, which by default is so for 2 to 256 endpoints. Only beyond them the
points are scaled to fit; a `maxRingSize` of 256 times the number of endpoints prevents it. Every endpoint has at least
one point. A ring is made anew at each change of the set, in some 0.3 ms for each thousand points.

Points come from the ids alone, and their number from the *registered* weight: the same for all clients in all orders,
and not moved about in ten steps by the slow start of a newcomer, which would leave every key's caches cold in turn.

**Bounded load** (Mirrokni, Thorup and Zadimoghaddam, 2016): an endpoint that has more than `load_factor` times its part
of all calls in progress passes the call on, clockwise. Recent failures count like calls in progress. A few calls are
never too many: the part of a quiet client's endpoint is below 1, and keys would be scattered for nothing.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from hashlib import blake2b, shake_128
from itertools import chain, islice, repeat
from struct import unpack

from grpc_balancer.load import Load
from grpc_balancer.pickers.contract import CallInfo, Candidate, PickerFactory
from grpc_registry.instance import DEFAULT_WEIGHT
from grpc_registry.service_config import RingHash

POINTS = 256
"""Of an endpoint of the default weight, while they fit: shares are even within some 6%, 1 / sqrt(256)."""

NEVER_TOO_MANY = 4
"""Calls in progress on an endpoint that always takes fewer than this."""

_LOOK_AT_MOST = 64
"""Points that a call looks at for an endpoint with room; then the key's own endpoint takes it, full as it is."""

_Place = tuple[Load, float, Candidate]


def ring_hash(settings: RingHash) -> PickerFactory:
    """The policy with these settings."""
    return partial(Ring, settings=settings)


class Ring:
    """The points of all endpoints, and who has them."""

    def __init__(self, candidates: Sequence[Candidate], rng: random.Random, settings: RingHash | None = None) -> None:
        settings = settings or RingHash()
        self.candidates = candidates
        self._header = settings.header.lower()
        self._bounded = settings.load_factor > 0
        self._draw = partial(rng.getrandbits, 64)
        total = sum(candidate.instance.weight for candidate in candidates)
        size = min(max(total * POINTS / DEFAULT_WEIGHT, settings.min_ring_size), settings.max_ring_size)
        places: dict[int, _Place] = {}
        # In the order of ids, so that it does not depend on the order of candidates who has a point that two hash to.
        for candidate in sorted(candidates, key=lambda one: (one.instance.id, one.instance.address)):
            part = candidate.instance.weight / total
            place = (candidate.load, settings.load_factor * part, candidate)
            places.update(zip(_points(candidate.instance.id, max(1, round(size * part))), repeat(place)))
        self._points = sorted(places)
        self._places = [places[point] for point in self._points]
        self._outstanding = 0  # of all, as of some picks ago
        self._picks_since = self._count_after = len(candidates) // 8

    def pick(self, call: CallInfo) -> Candidate:
        self._picks_since += 1
        start = bisect_left(self._points, self._hash(call)) % len(self._points)
        place = self._places[start]
        if self._has_room(place):
            return place[2]
        for other in self._clockwise(start, _LOOK_AT_MOST):
            if other is not place and self._has_room(other):
                return other[2]
        return place[2]

    def pick_excluding(self, call: CallInfo, excluded: Collection[Candidate]) -> Candidate | None:
        """The next one clockwise that is none of `excluded` and has room; None if those are all."""
        self._picks_since += 1
        start = bisect_left(self._points, self._hash(call))
        first: Candidate | None = None
        for looked, place in enumerate(self._clockwise(start, len(self._places))):
            if place[2] not in excluded:
                if self._has_room(place):
                    return place[2]
                first = first or place[2]
            if first is not None and looked >= _LOOK_AT_MOST:
                break
        return first

    def owner(self, call: CallInfo) -> Candidate | None:
        """Whose the call's key is, whoever takes the call while that one is overloaded; None without a key."""
        key = self._key(call)
        return None if key is None else self._places[bisect_left(self._points, _hash(key)) % len(self._places)][2]

    def scores(self, call: CallInfo) -> Sequence[float]:
        """The place of each in the order in which the call's key has them, from 0; without a key all are alike."""
        key = self._key(call)
        if key is None:
            return [0.0] * len(self.candidates)
        start = bisect_left(self._points, _hash(key))
        ranks: dict[int, float] = {}
        for _, _, candidate in self._clockwise(start, len(self._places)):
            ranks.setdefault(id(candidate), float(len(ranks)))
        return [ranks.get(id(candidate), float(len(ranks))) for candidate in self.candidates]

    def _clockwise(self, start: int, number: int) -> Iterator[_Place]:
        places = self._places
        positions = chain(range(start, len(places)), range(start))
        return (places[position] for position in islice(positions, number))

    def _has_room(self, place: _Place) -> bool:
        load, part, _ = place
        busy = load.count + load.penalty if load.failures else load.count
        return busy < NEVER_TOO_MANY or not self._bounded or busy < part * (self._outstanding_of_all() + 1)

    def _outstanding_of_all(self) -> int:
        """As it was some picks ago: counting costs time for each endpoint, so it waits for a pick for each eight."""
        if self._picks_since >= self._count_after:
            self._picks_since = 0
            self._outstanding = sum(candidate.load.count for candidate in self.candidates)
        return self._outstanding

    def _hash(self, call: CallInfo) -> int:
        # gRFC A76: "If the request hash header is not present, generate a random hash for it."
        key = self._key(call)
        return self._draw() if key is None else _hash(key)

    def _key(self, call: CallInfo) -> bytes | None:
        if not self._header or call.metadata is None:
            return None
        values = [value for name, value in call.metadata if name == self._header]
        if not values:
            return None
        # gRFC A76: "If the header has multiple values, join them with commas".
        return b",".join(value.encode() if isinstance(value, str) else value for value in values)

    def __repr__(self) -> str:
        return f"<RingHash of {len(self.candidates)}, {len(self._points)} points, by {self._header or 'chance'}>"


def _points(instance_id: str, number: int) -> tuple[int, ...]:
    """The first `number` of a sequence that belongs to the id: more points are the same ones and some more."""
    return unpack(f"<{number}Q", shake_128(instance_id.encode()).digest(8 * number))


def _hash(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
