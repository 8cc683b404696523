"""Endpoints that serve calls in virtual time, for what a policy makes of slow and of failing ones."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

from grpc import ChannelConnectivity

from grpc_balancer.load import Handle, Outcome
from grpc_balancer.pickers import policy_named
from grpc_balancer.testing import FakeEndpoint
from tests.unit.client.candidates import CALL, instance

Serve = Callable[[float, random.Random], tuple[Outcome, float]]
"""How a call that arrives at this second goes, and how many seconds it takes."""


def steadily(seconds: float) -> Serve:
    return lambda now, rng: (Outcome.SUCCEEDED, seconds)


def exponentially(mean: float) -> Serve:
    return lambda now, rng: (Outcome.SUCCEEDED, rng.expovariate(1 / mean))


def simulate(policy: str, servers: list[Serve], rate: float, seconds: int, seed: int) -> list[Counter[int]]:
    """Poisson arrivals of `rate` a second: how many calls each server gets, second by second."""
    now = 0.0
    endpoints = [
        FakeEndpoint(instance(f"e{index}", port=20_000 + index), ChannelConnectivity.READY, clock=lambda: now)
        for index in range(len(servers))
    ]
    servers_of = dict(zip(endpoints, enumerate(servers), strict=True))
    rng = random.Random(seed)
    picker = policy_named(policy)(endpoints, rng)
    got: list[Counter[int]] = [Counter() for _ in range(seconds)]
    ends: list[tuple[float, int, Handle, FakeEndpoint, Outcome, float]] = []
    arrival, number = rng.expovariate(rate), 0
    while arrival < seconds:
        while ends and ends[0][0] <= arrival:
            now, _, handle, endpoint, outcome, elapsed = heapq.heappop(ends)
            handle.end()
            endpoint.load.record(outcome, elapsed)
        now = arrival
        picked = picker.pick(CALL)
        assert isinstance(picked, FakeEndpoint)
        index, serve = servers_of[picked]
        outcome, elapsed = serve(now, rng)
        got[int(now)][index] += 1
        number += 1
        heapq.heappush(ends, (now + elapsed, number, picked.load.begin(), picked, outcome, elapsed))
        arrival += rng.expovariate(rate)
    return got


def share(got: list[Counter[int]], index: int, of: int) -> float:
    """The server's part of the calls of these seconds; 1 is its fair share among so many."""
    total: Counter[int] = sum(got, Counter())
    return total[index] * of / total.total()
