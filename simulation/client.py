"""A simulated client: one process with one `Channel`. Here are its connections, and what it hears of the registry."""

from __future__ import annotations

import random
from typing import Protocol

from grpc import ChannelConnectivity

from grpc_balancer.balancer import Changes
from grpc_balancer.watch import LONGEST_PAUSE
from grpc_registry import Instance, Snapshot
from simulation.calls import Attempt, Calls, Surroundings
from simulation.production import Connection, Variant, make_balancer
from simulation.server import Mode, Server

_FIRST_RECONNECT, _LONGEST_RECONNECT, _RECONNECT_GROWTH = 0.2, 2.0, 1.6
_CONNECT_SECONDS = 5.0
"""As in `grpc_balancer.options`, in seconds."""


class World(Surroundings, Protocol):
    """What a client is placed in."""

    def server_of(self, instance: Instance) -> Server: ...


class Client:
    """Owns its connections, as the dispatcher and its watch do."""

    def __init__(
        self, name: str, zone: str, variant: Variant, deadline: float, world: World, rng: random.Random
    ) -> None:
        self.balancer = make_balancer(variant, zone, name, self._make, rng, world.clock)
        self.calls = Calls(self.balancer, zone, deadline, world, rng, hedged="hedging" in variant.features)
        self.connections: dict[str, Connection] = {}
        """By instance id: those that the balancer knows."""
        self.zone = zone
        self._world = world
        self._clock = world.clock
        self._rng = rng

    def _make(self, instance: Instance) -> Connection:
        connection = Connection(instance, self._world.server_of(instance), self._clock)
        self.connections[instance.id] = connection
        return connection

    def begin_connected(self, snapshot: Snapshot) -> None:
        """Know all this, and be connected to all of it, as after some time of peace."""
        opened = list(self.balancer.apply(snapshot).open)
        self._rng.shuffle(opened)
        for connection in opened:
            connection.connectivity = ChannelConnectivity.READY
            self.balancer.connectivity_changed(connection)
        self._tick()

    def _tick(self) -> None:
        self.balancer.tick()
        self._clock.after(LONGEST_PAUSE, self._tick)

    def resolve(self, snapshot: Snapshot) -> None:
        """The registry says this."""
        self._carry_out(self.balancer.apply(snapshot))
        self.calls.serve_waiting()

    def lose(self, connection: Connection, error: str, *, gone: bool = False) -> None:
        """The connection is lost, `gone`: as if its machine were. It is tried again at once."""
        for job in list(connection.server.jobs):
            if isinstance(job, Attempt) and job.connection is connection:
                connection.server.drop(job)
        if connection.connectivity is ChannelConnectivity.READY and not connection.closed:
            connection.error = error
            self._note(connection, ChannelConnectivity.IDLE)
            self._connect(connection)
            if gone:
                for suspect in self.balancer.machine_lost(connection):
                    self._ask(suspect)

    def _ask(self, suspect: Connection) -> None:
        """A health check, again and again until it is answered."""
        if suspect.server.mode is Mode.WORKING:
            self._clock.after(2 * self._world.one_way(self.zone, suspect.server), self.balancer.answered, suspect)
        elif not suspect.closed:
            self._clock.after(1.0, self._ask, suspect)

    def _carry_out(self, changes: Changes[Connection]) -> None:
        for connection in changes.open:
            self._connect(connection)
        for connection in changes.retire:
            connection.closed = True
            if self.connections.get(connection.instance.id) is connection:
                del self.connections[connection.instance.id]

    def _connect(self, connection: Connection, pause: float = _FIRST_RECONNECT) -> None:
        if connection.closed:
            return
        if connection.connectivity is not ChannelConnectivity.TRANSIENT_FAILURE:  # gRFC A62: that is sticky
            self._note(connection, ChannelConnectivity.CONNECTING)
        self._clock.after(2 * self._world.one_way(self.zone, connection.server), self._connect_ended, connection, pause)

    def _connect_ended(self, connection: Connection, pause: float) -> None:
        if connection.closed:
            return
        match connection.server.mode:
            case Mode.WORKING:
                connection.error = ""
                self._note(connection, ChannelConnectivity.READY)
                return
            case Mode.DOWN:
                connection.error = "Connection refused"
            case Mode.FROZEN:  # the machine accepts it, but nobody answers
                self._clock.after(_CONNECT_SECONDS, self._connect_ended, connection, pause)
                return
        self._note(connection, ChannelConnectivity.TRANSIENT_FAILURE)
        growing = min(pause * _RECONNECT_GROWTH, _LONGEST_RECONNECT)
        self._clock.after(pause * self._rng.uniform(0.8, 1.2), self._connect, connection, growing)

    def _note(self, connection: Connection, connectivity: ChannelConnectivity) -> None:
        if connection.connectivity is connectivity:
            return
        connection.connectivity = connectivity
        self._carry_out(self.balancer.connectivity_changed(connection))
        self.calls.serve_waiting()
