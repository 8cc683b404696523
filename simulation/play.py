"""Runs one scenario under one variant."""

from __future__ import annotations

import gc

from simulation.calls import Call
from simulation.cluster import Cluster
from simulation.measure import SAMPLE_SECONDS, Measure, Result
from simulation.production import Variant
from simulation.scenarios import Scenario

KEYS = 10_000
"""How many different keys calls carry, for policies that look at one."""


def play(scenario: Scenario, variant: Variant, seed: int) -> Result:
    """Play it to the end. The same arguments give the same result, to the last bit."""
    gc.freeze()
    gc.disable()  # a million endpoints, and hardly any cycles: to look for some again and again takes most of the time
    try:
        return _Run(scenario, variant, seed).result()
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()


class _Run:
    def __init__(self, scenario: Scenario, variant: Variant, seed: int) -> None:
        self._scenario = scenario
        self._variant = variant
        self._seed = seed
        self._measure = Measure(scenario.warm_up, scenario.odd_window)
        self._cluster = cluster = Cluster(f"{seed}/{scenario.name}", variant, self._measure, scenario.deadline)
        for number in range(scenario.servers):
            cluster.add_server(
                scenario.slots,
                scenario.slowness(number),
                weight=scenario.weight(number),
                zone=scenario.zones[number % len(scenario.zones)],
                host=f"host-{number // scenario.servers_on_host}",
            )
        cluster.add_clients(scenario.clients, scenario.zones)
        self._arrivals = cluster.stream("arrivals")
        self._work = cluster.stream("work")

    def result(self) -> Result:
        scenario, cluster = self._scenario, self._cluster
        cluster.clock.run(0.0)
        scenario.play(cluster)
        self._arrive()
        self._look()
        cluster.clock.run(scenario.seconds + scenario.deadline + 1.0)  # the last calls end too
        peak = max(server.peak for server in cluster.servers)
        return self._measure.result(scenario.name, self._variant.name, self._seed, peak)

    def _arrive(self) -> None:
        """A call begins, at any of the clients; the next one follows as in a Poisson process."""
        clock, scenario = self._cluster.clock, self._scenario
        if clock.now >= scenario.seconds:
            return
        client = self._cluster.clients[int(self._arrivals.random() * scenario.clients)]
        client.calls.begin(Call(scenario.work(self._work), f"key {int(self._arrivals.random() * KEYS)}", clock.now))
        clock.after(self._arrivals.expovariate(scenario.calls_per_second), self._arrive)

    def _look(self) -> None:
        clock = self._cluster.clock
        if clock.now < self._scenario.seconds:
            self._measure.look(self._cluster.working(), clock.now)
            clock.after(SAMPLE_SECONDS, self._look)
