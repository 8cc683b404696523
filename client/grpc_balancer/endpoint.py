"""One instance and everything of ours that belongs to it: its connection, the state of that, its load.

Each endpoint has a grpc.aio channel of its own with its own subchannel pool, so one TCP (or TLS) connection. gRPC
connects on demand and lets go of a lost connection; `look` asks for it again, so that calls find connections and need
not wait for them.

Retries go over a second channel, made for the first of them. C-core repeats by itself what it knows that no server has
seen, and a channel that does so removes `grpc-previous-rpc-attempts` from our metadata, since it counts for itself. So
first attempts have a channel that does (a GOAWAY that turns them away costs them nothing), and retries have one that
does not.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from grpc import ChannelConnectivity

from grpc_balancer.failure import answer_of, reason
from grpc_balancer.health import HealthWatch, probe
from grpc_balancer.hosts import speaks_of_the_machine
from grpc_balancer.load import Load
from grpc_balancer.options import FOR_RETRIES, Options
from grpc_balancer.outlier import Record
from grpc_balancer.secrets import Secrets
from grpc_registry import Instance

Route = tuple[str, str, bool]
"""What a stub asks a channel for: the call kind (`unary_unary` …), the method, whether it is a registered method."""

_HEALTH: Route = ("unary_unary", "/grpc.health.v1.Health/Check", False)
_PROBE_SECONDS = 1.0
_BETWEEN_LOOKS = 0.02

Dial = Callable[[Options], grpc.aio.Channel]
"""Makes a channel to an endpoint, with these options beside those of all. Nothing is dialled by that."""


class Line:
    """A channel to an endpoint, and its multicallables in bytes both ways: one a method, whoever asks."""

    def __init__(self, channel: grpc.aio.Channel, secret: object = None) -> None:
        self.channel = channel
        self.secret = secret
        """What it was made with, as `Secrets.current` has it."""
        self.multicallables: dict[Route, Any] = {}
        """Those that `multicallable` has made."""

    @property
    def ready(self) -> bool:
        """Whether there is a connection at this moment, by gRPC's own word."""
        return self.channel.get_state() is ChannelConnectivity.READY

    async def connected(self) -> None:
        """Return once there is a connection. As in `watch`, without gRPC's own wait for it."""
        while self.channel.get_state(try_to_connect=True) is not ChannelConnectivity.READY:  # noqa: ASYNC110
            await asyncio.sleep(_BETWEEN_LOOKS)

    def multicallable(self, route: Route) -> Any:
        if route not in self.multicallables:
            kind, method, registered = route
            self.multicallables[route] = getattr(self.channel, kind)(method, _registered_method=registered)
        return self.multicallables[route]


class Endpoint:
    """An instance, its lines, and what is known of both."""

    def __init__(
        self,
        instance: Instance,
        dial: Dial,
        clock: Callable[[], float] = time.monotonic,
        secret: Callable[[], object] = lambda: None,
    ) -> None:
        self.instance = instance
        self.weight = instance.weight
        """The effective one, for pickers; the balancer sets it."""
        known = secret()  # before it is used: if it changes meanwhile, that is seen and the line renewed
        self.line = Line(dial(()), known)
        self.load = Load(clock)
        self.record = Record()
        self.connectivity = ChannelConnectivity.IDLE
        self.looked_at = -math.inf
        """When the connection was last looked at."""
        self.error = ""
        self.machine_lost = False
        """Whether the way in which the connection was lost speaks of the machine, and not of the process."""
        self.expelled = False
        """Whether the endpoint was retired and its calls did not finish in the time they were given."""
        self._dial = dial
        self._clock = clock
        self._secret = secret
        self._line_for_retries: Line | None = None
        self._closed = False
        self._probe: Any = None
        self._connection = ChannelConnectivity.IDLE
        self._health: HealthWatch | None = None
        self._health_arguments: Any = None
        self._healths: list[HealthWatch] = []  # this one, and those before it that have not ended

    @property
    def line_for_retries(self) -> Line:
        if self._line_for_retries is None:
            self._line_for_retries = Line(self._dial(FOR_RETRIES))
        return self._line_for_retries

    async def renew(self, seconds: float) -> list[Line]:
        """Move to a new connection if certificates have changed since the present one was made.

        Only if the new one stands within `seconds`: while a rotation is under way servers may not trust the new
        certificate yet, and a connection that works is not given up for one that does not. Returns the lines that are
        not used any more, which may still have calls.
        """
        if self.line.secret is (secret := self._secret()):
            return []
        successor, stands = Line(self._dial(()), secret), False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await successor.connected()
                    stands = not self._closed
        finally:  # it may be cancelled, too
            if not stands:
                await successor.channel.close()
        if not stands:
            return []
        left = [self.line] if self._line_for_retries is None else [self.line, self._line_for_retries]
        self.line, self._line_for_retries = successor, None
        if self._health is not None:
            self.watch_health(*self._health_arguments)  # until it has answered the endpoint is not picked
        return left

    def look(self) -> bool:
        """Note the state of the connection, and ask for one if there is none. Whether to look again soon."""
        self.looked_at = self._clock()
        state = self.line.channel.get_state(try_to_connect=True)
        before, asking = self._connection, False
        if state is ChannelConnectivity.READY:
            self._probe = None
        elif before is ChannelConnectivity.TRANSIENT_FAILURE:
            # gRFC A62: TRANSIENT_FAILURE is sticky, lest calls wait again and again for a connection that fails.
            state = before
        elif state is ChannelConnectivity.TRANSIENT_FAILURE and not self._asked_why():
            state, asking = ChannelConnectivity.CONNECTING, True  # it is told with its reason, a millisecond later
        self._connection = state
        if self._health is not None:
            self._health.connection_changed(state is ChannelConnectivity.READY)
        if state is ChannelConnectivity.READY:
            state, self.error = (state, "") if self._health is None else self._health.verdict
        known, self.connectivity = self.connectivity, state
        if state is not known:
            failed = self._connection is ChannelConnectivity.TRANSIENT_FAILURE
            self.machine_lost = failed and speaks_of_the_machine(self.error)
        return asking or state is not known

    def watch_health(self, service: str | None, rng: random.Random, on_change: Callable[[], object]) -> None:
        """Ask the server from now on whether it serves `service`, and be READY only while it says so; None: ask not.

        `on_change` is called when there is news, for which to look.
        """
        self._health_arguments = service, rng, on_change
        if self._health is not None:
            self._health.stop()
        self._healths = [health for health in self._healths if not health.has_ended]
        self._health = None if service is None else HealthWatch(self.line.channel, service, on_change, rng)
        if self._health is not None:
            self._healths.append(self._health)

    async def answers(self) -> bool:
        """Whether the server answers over its connection, whatever it says."""
        return await probe(self.line, _PROBE_SECONDS)

    def _asked_why(self) -> bool:
        """Find out why the connection failed, and tell whether that is done.

        gRPC tells only calls, so make one: it fails here, before it is sent anywhere. Should the connection come about
        at that very moment, then a server gets a health check it did not expect.
        """
        if self._probe is None:
            self._probe = self.line.multicallable(_HEALTH)(b"", timeout=_PROBE_SECONDS)
        if not self._probe.done():
            return False
        if answer_of(self._probe.code()) is grpc.StatusCode.UNAVAILABLE:
            self.error = reason(answer_of(self._probe.details()) or "")
        self._probe = None
        return True

    async def close(self) -> None:
        """Cancel what is in progress and close the connections. Idempotent."""
        self._closed = True
        for health in self._healths:
            health.stop()
            await health.stopped()
        await self.line.channel.close()
        if self._line_for_retries is not None:
            await self._line_for_retries.channel.close()

    def __repr__(self) -> str:
        state = self.connectivity.name.lower()
        calls = f"{self.load.count} outstanding"
        return f"<Endpoint {self.instance.address} {self.instance.id}: {state}, {calls}, weight {self.weight}>"


Connect = Callable[[Instance], Endpoint]


def connector(
    options: Options,
    secrets: Secrets,
    compression: grpc.Compression | None,
    clock: Callable[[], float] = time.monotonic,
) -> Connect:
    """How a channel makes its endpoints. Nothing is dialled before `look`."""

    def connect(instance: Instance) -> Endpoint:
        # The scheme is explicit, lest a name like `ipv4` be taken for one.
        address = instance.address
        target = address if address.startswith("unix:") else f"dns:///{address}"

        def dial(more: Options) -> grpc.aio.Channel:
            credentials = secrets.current()
            if credentials is None:
                return grpc.aio.insecure_channel(target, options + more, compression)
            return grpc.aio.secure_channel(target, credentials, (*secrets.options, *options, *more), compression)

        return Endpoint(instance, dial, clock, secrets.current)

    return connect
