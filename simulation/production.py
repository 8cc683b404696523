"""Where the simulator meets the production code: the only module that knows how a balancer is made, and told."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from grpc import ChannelConnectivity

from grpc_balancer.balancer import Balancer
from grpc_balancer.channel import OUTLIER_DETECTION, SLOW_START_SECONDS
from grpc_balancer.load import Load, Outcome
from grpc_balancer.outlier import Record
from grpc_balancer.pickers import policies, policy_of
from grpc_balancer.rules import Rules
from grpc_registry import Instance
from grpc_registry.service_config import Balancing, RingHash
from simulation.server import Server

FEATURES = {
    "hedging": "calls are sent again after 100 ms, in place of retries",
    "outlier": "outlier detection, as by default in a `Channel`",
    "slow_start": "newcomers warm up, as by default in a `Channel`",
    "subset": "each client is connected to 20 servers at most",
    "zone": "the client's own zone first",
}
"""What can be added to a policy."""

KEY = "key"
"""The metadata header that `ring_hash` hashes."""


@dataclass(frozen=True)
class Variant:
    """What is compared: a policy and the features that go with it, written like `least_outstanding+outlier`."""

    policy: str
    features: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return "+".join([self.policy, *sorted(self.features)])

    def balancing(self) -> Balancing:
        return Balancing(self.policy, RingHash(header=KEY) if self.policy == "ring_hash" else None)

    def rules(self, zone: str, client: str) -> Rules:
        """What the balancer of that client goes by."""
        return Rules(
            outlier_detection=OUTLIER_DETECTION if "outlier" in self.features else None,
            slow_start=SLOW_START_SECONDS if "slow_start" in self.features else 0.0,
            zone=zone if "zone" in self.features else "",
            max_endpoints=20 if "subset" in self.features else None,
            subset_key=client,
        )


def variant_named(name: str) -> Variant:
    """The variant of that name. Raises `ValueError`, naming what is unknown."""
    policy, *features = name.split("+")
    if policy not in policies():
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(policies())}")
    for feature in features:
        if feature not in FEATURES:
            raise ValueError(f"unknown feature {feature!r} of {name!r}; known: {', '.join(FEATURES)}")
    return Variant(policy, frozenset(features))


class Connection:
    """A client's endpoint, as the balancer wants one, whose connection leads to a simulated server."""

    __slots__ = ("closed", "connectivity", "error", "instance", "load", "record", "server", "weight")

    def __init__(self, instance: Instance, server: Server, clock: Callable[[], float]) -> None:
        self.instance = instance
        self.weight = instance.weight
        self.load = Load(clock)
        self.record = Record()
        self.connectivity = ChannelConnectivity.IDLE
        self.error = ""
        self.server = server
        self.closed = False


def make_balancer(
    variant: Variant,
    zone: str,
    client: str,
    connect: Callable[[Instance], Connection],
    rng: random.Random,
    clock: Callable[[], float],
) -> Balancer[Connection]:
    return Balancer("product", policy_of(variant.balancing()), connect, rng, clock, variant.rules(zone, client))


def finished(balancer: Balancer[Connection], connection: Connection, outcome: Outcome, elapsed: float) -> None:
    """An attempt has ended, `elapsed` seconds after it was started: as `Dispatcher.finished`."""
    connection.load.record(outcome, elapsed)
    if outcome is Outcome.SUCCEEDED:
        connection.record.succeeded()
    elif outcome is Outcome.FAILED:
        balancer.failed(connection)
