"""Regression gate: a change of the set moves no more than its share of the keys of `ring_hash`."""

from __future__ import annotations

import random

import pytest
from grpc import ChannelConnectivity

from grpc_registry import Instance, Snapshot
from simulation.calls import Call
from simulation.clock import VirtualClock
from simulation.production import Connection, make_balancer, variant_named
from simulation.server import Server

KEYS = 4_000


class Ring:
    """A balancer under `ring_hash`, told of sets of instances."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self._balancer = make_balancer(
            variant_named("ring_hash"), "", "client", self._connect, random.Random(1), self._clock
        )
        self._revision = 0

    def _connect(self, instance: Instance) -> Connection:
        return Connection(instance, Server(self._clock, random.Random(2), instance, 1), self._clock)

    def owners(self, instances: list[Instance]) -> list[str]:
        """Which instance each key belongs to, if these are all."""
        self._revision += 1
        for connection in self._balancer.apply(Snapshot("product", self._revision, tuple(instances))).open:
            connection.connectivity = ChannelConnectivity.READY
            self._balancer.connectivity_changed(connection)
        picks = [self._balancer.pick(Call(0.0, f"key {number}", 0.0)) for number in range(KEYS)]
        return [pick.instance.id for pick in picks if pick is not None]


def _moved(servers: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The old and the new owners of the keys that move when `gone` leaves so many servers, and when `new` joins."""
    stay = [Instance("product", f"10.0.0.{number}:1", id=f"i{number}") for number in range(1, servers)]
    ring = Ring()
    before = ring.owners([*stay, Instance("product", "10.0.1.1:1", id="gone")])
    between = ring.owners(stay)
    after = ring.owners([*stay, Instance("product", "10.0.1.2:1", id="new")])
    assert len(before) == len(between) == len(after) == KEYS
    changes = (zip(before, between, strict=True), zip(between, after, strict=True))
    left, joined = ([(old, new) for old, new in change if old != new] for change in changes)
    return left, joined


@pytest.mark.parametrize("servers", [8, 20])
def test_only_the_share_of_what_changed_moves(servers: int) -> None:
    """Who leaves takes only its own keys along, and who joins takes its keys for itself; all others stay."""
    left, joined = _moved(servers=servers)
    assert 0 < len(left) < 1.4 * KEYS / servers
    assert 0 < len(joined) < 1.4 * KEYS / servers
    assert {old for old, _ in left} == {"gone"}
    assert {new for _, new in joined} == {"new"}
