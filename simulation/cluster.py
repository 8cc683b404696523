"""The simulated world of one run: the servers, the registry that lists them, the clients, and what can befall them."""

from __future__ import annotations

import random
from dataclasses import replace

from grpc import StatusCode

from grpc_registry import Instance, Snapshot, State
from simulation.calls import Call
from simulation.client import Client
from simulation.clock import VirtualClock
from simulation.measure import Measure
from simulation.production import Connection, Variant
from simulation.server import Mode, Server

LEASE_SECONDS = 10.0
"""After this long the registry forgets an instance that cannot keep its lease alive (the default TTL)."""

KEEPALIVE_SECONDS = 4.0, 14.0
"""Clients with `FAST_KEEPALIVE` give up a connection on which nobody answers after this long, at least and at most."""

PEACE_SECONDS, LONGEST_PEACE_SECONDS = 12.0, 22.0
"""How long clients are there before the time 0: longer than an endpoint needs to warm up, and each a different time."""

_DRAIN_SECONDS, _LONGEST_DRAIN_SECONDS = 1.0, 10.0
"""How long a draining server stays at least, and at most if it has calls."""

_COLD, _COLD_SECONDS = 3.0, 2.0
"""How many times slower a new process is, and for how long."""

_NEWS_SECONDS = 0.002, 0.02
"""How long news from the registry takes to a client, at least and at most."""

_ONE_WAY_IN_ZONE, _ONE_WAY_ACROSS = 0.000_25, 0.001


class Cluster:
    """Everything draws from streams of random numbers of its own, so that all policies meet the same calls."""

    def __init__(self, seed: str, variant: Variant, measure: Measure, deadline: float) -> None:
        self.clock = VirtualClock(-LONGEST_PEACE_SECONDS)
        self.servers: list[Server] = []
        self.clients: list[Client] = []
        self._seed = seed
        self._variant = variant
        self.measure = measure
        self._deadline = deadline
        self._listed: dict[str, Instance] = {}
        self._by_id: dict[str, Server] = {}
        self._snapshot = Snapshot("product", 0, ())
        self._news = self.stream("news")

    def stream(self, name: str) -> random.Random:
        """Random numbers that depend on the seed and the name alone."""
        return random.Random(f"{self._seed}/{name}")

    # What there is

    def add_server(
        self, slots: int, slowness: float = 1.0, *, weight: int = 100, zone: str = "", host: str = ""
    ) -> Server:
        """A new instance, which is listed at once."""
        number = len(self.servers) + 1
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:50051"
        instance = Instance("product", address, id=f"i{number:05}", weight=weight, zone=zone, host=host)
        server = Server(self.clock, self.stream(f"server {number}"), instance, slots, slowness)
        self.servers.append(server)
        self._by_id[instance.id] = server
        self._list(instance)
        return server

    def add_clients(self, count: int, zones: tuple[str, ...] = ("",)) -> None:
        """Clients that will have known all servers for a while, and be connected to them, when the time is 0."""
        for number in range(count):
            name, zone = f"client {number:04}", zones[number % len(zones)]
            self.clock.at(-self._news.uniform(PEACE_SECONDS, LONGEST_PEACE_SECONDS), self._add_client, name, zone)

    def _add_client(self, name: str, zone: str) -> None:
        client = Client(name, zone, self._variant, self._deadline, self, self.stream(name))
        client.begin_connected(self._snapshot)
        self.clients.append(client)

    def working(self) -> list[Server]:
        """The servers that are listed as serving."""
        return [self._by_id[instance.id] for instance in self._listed.values() if instance.state is State.SERVING]

    # What a client is placed in

    def server_of(self, instance: Instance) -> Server:
        return self._by_id[instance.id]

    def one_way(self, zone: str, server: Server) -> float:
        return _ONE_WAY_IN_ZONE if zone == server.instance.zone else _ONE_WAY_ACROSS

    def attempted(self, server: Server) -> None:
        self.measure.attempted(server, self.clock.now)

    def ended(self, call: Call, code: StatusCode) -> None:
        self.measure.ended(call, code, self.clock.now)

    # What can happen

    def _list(self, instance: Instance) -> None:
        self._listed[instance.id] = instance
        self._publish()

    def _forget(self, server: Server) -> None:
        if self._listed.pop(server.instance.id, None) is not None:
            self._publish()

    def _publish(self) -> None:
        revision = self._snapshot.revision + 1
        self._snapshot = snapshot = Snapshot("product", revision, tuple(self._listed.values()))
        for client in self.clients:
            self.clock.after(self._news.uniform(*_NEWS_SECONDS), self._tell, client, snapshot)

    def _tell(self, client: Client, snapshot: Snapshot) -> None:
        if snapshot is self._snapshot:  # else there is a newer one under way
            client.resolve(snapshot)

    def crash(self, server: Server) -> None:
        """The process ends without a word; its machine closes the connections, its lease runs out."""
        server.stop()
        self._lose_connections(server, "Connection reset by peer")
        self.clock.after(LEASE_SECONDS, self._forget, server)

    def freeze(self, server: Server) -> None:
        """As SIGSTOP: connections stay until a keepalive is missed, and the lease runs out."""
        server.freeze()
        self.clock.after(LEASE_SECONDS, self._lose_lease, server)
        for client, connection in self._connections(server):
            missed = self._news.uniform(*KEEPALIVE_SECONDS)
            self.clock.after(missed, self._miss_keepalive, client, connection)

    def thaw(self, server: Server) -> None:
        """As SIGCONT. A process that lost its lease registers again."""
        server.thaw()
        if server.instance.id not in self._listed:
            self._list(server.instance)

    def _lose_lease(self, server: Server) -> None:
        if server.mode is Mode.FROZEN:
            self._forget(server)

    def _miss_keepalive(self, client: Client, connection: Connection) -> None:
        if connection.server.mode is Mode.FROZEN:
            client.lose(connection, "ping timeout", gone=True)

    def _lose_connections(self, server: Server, error: str) -> None:
        for client, connection in self._connections(server):
            self.clock.after(self.one_way(client.zone, server), client.lose, connection, error)

    def _connections(self, server: Server) -> list[tuple[Client, Connection]]:
        found = [(client, client.connections.get(server.instance.id)) for client in self.clients]
        return [(client, connection) for client, connection in found if connection is not None]

    def restart(self, server: Server, away: float) -> None:
        """Drain the server, stop it once it is idle, and `away` seconds later have a new, cold instance there."""
        self._list(replace(server.instance, state=State.DRAINING))
        self.clock.after(_DRAIN_SECONDS, self._stop_when_idle, server, away, self.clock.now + _LONGEST_DRAIN_SECONDS)

    def _stop_when_idle(self, server: Server, away: float, latest: float) -> None:
        if server.jobs and self.clock.now < latest:
            self.clock.after(0.1, self._stop_when_idle, server, away, latest)
            return
        self._forget(server)
        server.stop()
        self._lose_connections(server, "Socket closed")
        self.clock.after(away, self._come_back, server)

    def _come_back(self, server: Server) -> None:
        old = server.instance
        self.warm_up(self.add_server(server.slots, weight=old.weight, zone=old.zone, host=old.host))

    def warm_up(self, server: Server) -> None:
        """A new process is slow at first: empty caches, no connections of its own yet."""
        slowness, server.slowness = server.slowness, server.slowness * _COLD
        self.clock.after(_COLD_SECONDS, setattr, server, "slowness", slowness)
