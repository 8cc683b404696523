"""A subset for each client, when a service has more instances than a client should be connected to.

By weighted rendezvous hashing: each client ranks all instances by a hash of both names and takes the first of its own
ranking. So clients agree on nothing and yet spread evenly, each instance by its weight; the same client chooses the
same again after a restart, if its key is the same; and an instance that comes or goes changes one member, in the
subsets that it joins or leaves, and nothing in the others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from hashlib import blake2b

from grpc_registry import Instance

_ELSEWHERE = 4
"""One of so many members is in another zone, so that calls can spill without waiting for a connection."""


def nearest(
    instances: Iterable[Instance],
    client_key: str,
    size: int,
    *,
    zone: str = "",
    failed: Collection[tuple[str, str]] = (),
) -> list[Instance]:
    """The `size` instances that are the client's own, its closest first, and replacements for those that fail.

    With a `zone`, three of four are there, as far as it has them. `failed` are the members that cannot be reached, by
    id and address. They stay members, lest nobody finds out that they are back, but do not count: for each of them the
    next in the ranking comes in while it fails, up to `size` more.

    Raises:
        ValueError: the size is not positive.
    """
    if size < 1:
        raise ValueError(f"size {size!r}: a subset has at least one member")
    ranking = _ranked(instances, client_key)
    if len(ranking) <= size:
        return ranking
    if zone:
        ranking = _zone_first(ranking, zone, size)
    members: list[Instance] = []
    reachable = 0
    for instance in ranking[: 2 * size]:
        members.append(instance)
        reachable += (instance.id, instance.address) not in failed
        if reachable == size:
            break
    return members


def _zone_first(ranking: list[Instance], zone: str, size: int) -> list[Instance]:
    here = [instance for instance in ranking if instance.zone == zone][: size - size // _ELSEWHERE]
    elsewhere = [instance for instance in ranking if instance.zone != zone][: size // _ELSEWHERE]
    first = {*here, *elsewhere}
    return [*here, *elsewhere, *(instance for instance in ranking if instance not in first)]


def _ranked(instances: Iterable[Instance], client_key: str) -> list[Instance]:
    """By an exponential variate with a mean of 1 / weight: the least of several is each one's by its weight.

    It is drawn by the id, which says what process it is, so that a change of the weight keeps the draw.
    """
    hashing = blake2b(digest_size=8, key=blake2b(client_key.encode(), digest_size=32).digest())

    def distance(instance: Instance) -> tuple[float, str, str]:
        of_both = hashing.copy()
        of_both.update(instance.id.encode())
        uniform = (int.from_bytes(of_both.digest(), "big") + 1) / (2**64 + 1)
        return -math.log(uniform) / instance.weight, instance.id, instance.address

    return sorted(instances, key=distance)
