"""What can be played: how many servers and clients, how fast they are, how much they have to do, and what happens."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.cluster import Cluster
from simulation.server import Server

Work = Callable[[random.Random], float]
"""Draws how long a call takes, in seconds, one slot of a server of speed 1."""


def exponential(mean: float) -> Work:
    return lambda rng: rng.expovariate(1 / mean)


def lognormal(median: float, sigma: float = 1.0) -> Work:
    """Most calls take about the same, a few take much longer; the mean is median * e^(sigma**2 / 2)."""
    return lambda rng: median * rng.lognormvariate(0.0, sigma)


def heavy_tailed(least: float, alpha: float = 1.8) -> Work:
    """Pareto: now and then a call takes hundreds of times as long; the mean is least * alpha / (alpha - 1)."""
    return lambda rng: least * rng.paretovariate(alpha)


POLICIES = ("round_robin", "random", "least_outstanding", "peak_ewma")


def _nothing(_: Cluster) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """Times are in seconds, `calls_per_second` those of all clients together. `play` arranges what happens."""

    name: str
    told: str
    """What happens, in a sentence or two."""
    servers: int = 20
    slots: int = 4
    clients: int = 10
    calls_per_second: float = 4_000.0
    work: Work = field(default_factory=lambda: exponential(0.010))
    seconds: float = 12.0
    warm_up: float = 2.0
    """Calls that begin before this are not counted."""
    deadline: float = 2.0
    play: Callable[[Cluster], None] = _nothing
    slowness: Callable[[int], float] = lambda number: 1.0
    """Of the server with that number, from 0."""
    weight: Callable[[int], int] = lambda number: 100
    zones: tuple[str, ...] = ("",)
    servers_on_host: int = 1
    odd_window: tuple[float, float] = (2.0, 12.0)
    """When attempts at the odd servers are compared with their fair share."""
    compared: tuple[str, ...] = (*POLICIES, "ring_hash")
    """The variants that tell most."""


def _odd(cluster: Cluster, *servers: Server) -> None:
    cluster.measure.odd.update(servers)


def _slow(cluster: Cluster) -> None:
    server = cluster.servers[0]
    server.slowness = 10.0
    _odd(cluster, server)


def _failing(cluster: Cluster) -> None:
    server = cluster.servers[0]
    server.failure_rate = 1.0
    _odd(cluster, server)


def _frozen(cluster: Cluster) -> None:
    server = cluster.servers[0]
    _odd(cluster, server)
    cluster.clock.at(4.0, cluster.freeze, server)


def _crash(cluster: Cluster) -> None:
    for number in range(3):
        cluster.clock.at(4.0 + number, cluster.crash, cluster.servers[number])


def _machine_lost(cluster: Cluster) -> None:
    for server in cluster.servers[:4]:
        _odd(cluster, server)
        cluster.clock.at(4.0, cluster.freeze, server)


def _rolling(cluster: Cluster) -> None:
    for number, server in enumerate(list(cluster.servers)):
        cluster.clock.at(2.5 + 1.2 * number, cluster.restart, server, 1.0)


def _scale_out(cluster: Cluster) -> None:
    def join() -> None:
        server = cluster.add_server(cluster.servers[0].slots)
        cluster.warm_up(server)
        _odd(cluster, server)

    cluster.clock.at(4.0, join)


def _large(cluster: Cluster) -> None:
    for server in cluster.servers[:20]:
        server.slowness = 10.0
        _odd(cluster, server)
    cluster.clock.at(4.0, cluster.crash, cluster.servers[20])


def _zone_lost(cluster: Cluster) -> None:
    local = [server for server in cluster.servers if server.instance.zone == "a"]
    for server in local[: len(local) // 2]:
        cluster.clock.at(5.0, cluster.crash, server)
    _odd(cluster, *local)


SCENARIOS = (
    Scenario("steady", "Twenty equal servers, half busy; nothing happens."),
    Scenario(
        "weighted",
        "Weights of 100 and 300, and servers three times as fast where the weight is 300.",
        weight=lambda number: 300 if number % 2 else 100,
        slowness=lambda number: 1.0 if number % 2 else 3.0,
        calls_per_second=3_000.0,
        compared=("round_robin", "weighted_round_robin", "random", "least_outstanding", "peak_ewma", "ring_hash"),
    ),
    Scenario(
        "skewed",
        "Equal weights, but speeds from 1 to 1/4: a mixed fleet. Work is lognormal.",
        slowness=lambda number: 1.0 + 3.0 * (number % 5) / 4,
        work=lognormal(0.006),
        calls_per_second=2_500.0,
    ),
    Scenario(
        "heavy_tail", "Equal servers; some calls take hundreds of times as long as most.", work=heavy_tailed(0.0045)
    ),
    Scenario(
        "one_slow",
        "One of eight servers takes ten times as long, as in `bench tail`.",
        servers=8,
        clients=3,
        calls_per_second=350.0,
        seconds=60.0,
        deadline=10.0,
        play=_slow,
        odd_window=(2.0, 60.0),
        compared=(*POLICIES, "ring_hash", "least_outstanding+hedging"),
    ),
    Scenario(
        "fast_failing",
        "One of twenty servers fails every call within 1 ms. It should not look idle.",
        clients=3,
        play=_failing,
        compared=(*POLICIES, "round_robin+outlier", "least_outstanding+outlier"),
    ),
    Scenario(
        "frozen",
        "One of twenty servers freezes after 4 s; connections stay until a keepalive is missed, 4 to 14 s later.",
        play=_frozen,
        seconds=20.0,
        odd_window=(4.5, 12.0),
        compared=(*POLICIES, "round_robin+outlier", "least_outstanding+outlier", "least_outstanding+hedging"),
    ),
    Scenario(
        "crashes",
        "Three of twenty servers die, one second after the other; the registry knows it 10 s later.",
        play=_crash,
    ),
    Scenario(
        "machine_lost",
        "One of five machines, with four servers each, goes silent after 4 s.",
        servers_on_host=4,
        calls_per_second=3_000.0,
        seconds=20.0,
        play=_machine_lost,
        odd_window=(4.5, 12.0),
        compared=(*POLICIES, "least_outstanding+outlier", "least_outstanding+hedging"),
    ),
    Scenario(
        "rolling_restart",
        "Each server in turn drains, stops, and is replaced after a second by one that is slow for its first 2 s.",
        servers=12,
        calls_per_second=2_000.0,
        seconds=20.0,
        play=_rolling,
        compared=(*POLICIES, "least_outstanding+outlier+slow_start"),
    ),
    Scenario(
        "scale_out",
        "Ten busy servers get an eleventh after 4 s, which is three times slower for its first 2 s.",
        servers=10,
        calls_per_second=2_800.0,
        play=_scale_out,
        odd_window=(4.0, 5.0),
        compared=(*POLICIES, "least_outstanding+slow_start", "peak_ewma+slow_start"),
    ),
    Scenario(
        "many_clients",
        "Five hundred clients that do not know of each other, with a few calls a second each.",
        servers=50,
        clients=500,
        slots=2,
        calls_per_second=7_000.0,
        seconds=8.0,
        compared=(*POLICIES, "ring_hash", "least_outstanding+subset"),
    ),
    Scenario(
        "zones",
        "Three zones of eight servers; after 5 s half of zone a dies. The odd servers are those of zone a.",
        servers=24,
        clients=30,
        zones=("a", "b", "c"),
        play=_zone_lost,
        odd_window=(5.5, 12.0),
        compared=("round_robin", "round_robin+zone", "least_outstanding", "least_outstanding+zone"),
    ),
    Scenario(
        "large",
        "2,000 servers, each client connected to all; 20 are ten times slower, and one dies.",
        servers=2_000,
        clients=500,
        slots=2,
        calls_per_second=10_000.0,
        work=lognormal(0.060, 0.8),
        seconds=8.0,
        play=_large,
        odd_window=(2.0, 8.0),
        compared=("round_robin", "least_outstanding", "least_outstanding+subset"),
    ),
)


def scenario_named(name: str) -> Scenario:
    """The scenario of that name. Raises `ValueError`, naming those known."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise ValueError(f"unknown scenario {name!r}; known: {', '.join(scenario.name for scenario in SCENARIOS)}")
