"""What the tests of pickers and of the balancer are made with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc.aio
from grpc import ChannelConnectivity

from grpc_balancer.pickers import policy_named
from grpc_balancer.testing import FakeEndpoint
from grpc_registry import Instance, Snapshot, State


@dataclass(frozen=True)
class FakeCall:
    """The least that a picker may ask of a call."""

    method: str = "/test.Echo/UnaryUnary"
    metadata: grpc.aio.Metadata | Sequence[tuple[str, str | bytes]] | None = None


CALL = FakeCall()


def instance(name: str, *, port: int = 0, weight: int = 100, state: State = State.SERVING) -> Instance:
    """An instance whose id is `name`, at an address of its own."""
    number = port or 10_000 + sum(name.encode()) % 1000
    return Instance("product", f"10.0.0.1:{number}", id=name, weight=weight, state=state)


def snapshot(revision: int, *instances: Instance, stale: bool = False, relisted: bool = False) -> Snapshot:
    return Snapshot("product", revision, instances, stale=stale, relisted=relisted)


def stopped() -> float:
    """A clock that stands still: what a failure weighs is then as it was recorded, however long a test is kept waiting.

    By the real one a failure has lost a thousandth of its weight after three milliseconds, and half after two seconds.
    """
    return 0.0


def candidates(*weights: int, clock: Callable[[], float] = time.monotonic) -> list[FakeEndpoint]:
    """Connected endpoints of these weights, named e0, e1 …"""
    return [
        FakeEndpoint(instance(f"e{index}", port=20_000 + index, weight=weight), ChannelConnectivity.READY, clock=clock)
        for index, weight in enumerate(weights)
    ]


def picks(policy: str, endpoints: Sequence[FakeEndpoint], number: int, seed: int = 0) -> list[str]:
    """The ids of so many picks, none of which becomes a call."""
    picker = policy_named(policy)(endpoints, random.Random(seed))
    return [picker.pick(CALL).instance.id for _ in range(number)]
