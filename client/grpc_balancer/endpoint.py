"""One instance and everything of ours that belongs to it: its connection, the state of that, its load.

Each endpoint has a grpc.aio channel of its own with its own subchannel pool, so one TCP (or TLS) connection. gRPC
connects on demand and lets go of a lost connection; `look` asks for it again, so that calls find connections and need
not wait for them.

Retries go over a second channel, made for the first of them. C-core repeats by itself what it knows that no server has
seen, and a channel that does so removes `grpc-previous-rpc-attempts` from our metadata, since it counts for itself. So
first attempts have a channel that does (a server that stops costs them nothing), and retries have one that does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from grpc import ChannelConnectivity

from grpc_balancer.failure import answer_of, reason
from grpc_balancer.load import Outstanding
from grpc_balancer.options import FOR_RETRIES, Options
from grpc_registry import Instance

Route = tuple[str, str, bool]
"""What a stub asks a channel for: the call kind (`unary_unary` …), the method, whether it is a registered method."""

_HEALTH: Route = ("unary_unary", "/grpc.health.v1.Health/Check", False)
_PROBE_SECONDS = 1.0


Dial = Callable[[Options], grpc.aio.Channel]
"""Makes a channel to an endpoint, with these options beside those of all. Nothing is dialled by that."""


class Line:
    """A channel to an endpoint, and its multicallables in bytes both ways: one a method, whoever asks."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._multicallables: dict[Route, Any] = {}

    @property
    def ready(self) -> bool:
        """Whether there is a connection at this moment, by gRPC's own word."""
        return self.channel.get_state() is ChannelConnectivity.READY

    def multicallable(self, route: Route) -> Any:
        try:
            return self._multicallables[route]
        except KeyError:
            kind, method, registered = route
            made = getattr(self.channel, kind)(method, _registered_method=registered)
            return self._multicallables.setdefault(route, made)


class Endpoint:
    """An instance, its lines, and what is known of both."""

    def __init__(self, instance: Instance, dial: Dial) -> None:
        self.instance = instance
        self.line = Line(dial(()))
        self.load = Outstanding()
        self.connectivity = ChannelConnectivity.IDLE
        self.error = ""
        self.expelled = False
        """Whether the endpoint was retired and its calls did not finish in the time they were given."""
        self._dial = dial
        self._line_for_retries: Line | None = None
        self._probe: Any = None

    @property
    def weight(self) -> int:
        return self.instance.weight

    @property
    def line_for_retries(self) -> Line:
        if self._line_for_retries is None:
            self._line_for_retries = Line(self._dial(FOR_RETRIES))
        return self._line_for_retries

    def look(self) -> bool:
        """Note the state of the connection, and ask for one if there is none. Whether to look again soon."""
        state = self.line.channel.get_state(try_to_connect=True)
        before, asking = self.connectivity, False
        if state is ChannelConnectivity.READY:
            self.error, self._probe = "", None
        elif before is ChannelConnectivity.TRANSIENT_FAILURE:
            # gRFC A62: TRANSIENT_FAILURE is sticky, lest calls wait again and again for a connection that fails.
            state = before
        elif state is ChannelConnectivity.TRANSIENT_FAILURE and not self._asked_why():
            state, asking = ChannelConnectivity.CONNECTING, True  # it is told with its reason, a millisecond later
        self.connectivity = state
        return asking or state is not before

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
        await self.line.channel.close()
        if self._line_for_retries is not None:
            await self._line_for_retries.channel.close()

    def __repr__(self) -> str:
        state = self.connectivity.name.lower()
        calls = f"{self.load.count} outstanding"
        return f"<Endpoint {self.instance.address} {self.instance.id}: {state}, {calls}, weight {self.weight}>"


Connect = Callable[[Instance], Endpoint]


def connector(
    options: Options, credentials: grpc.ChannelCredentials | None, compression: grpc.Compression | None
) -> Connect:
    """How a channel makes its endpoints. Nothing is dialled before `look`."""

    def connect(instance: Instance) -> Endpoint:
        # The scheme is explicit, lest a name like `ipv4` be taken for one.
        address = instance.address
        target = address if address.startswith("unix:") else f"dns:///{address}"

        def dial(more: Options) -> grpc.aio.Channel:
            if credentials is None:
                return grpc.aio.insecure_channel(target, options + more, compression)
            return grpc.aio.secure_channel(target, credentials, options + more, compression)

        return Endpoint(instance, dial)

    return connect
