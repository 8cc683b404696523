"""What an endpoint makes of its connection's states, without a connection."""

from __future__ import annotations

from typing import Any

import grpc
from grpc import ChannelConnectivity

from grpc_balancer.endpoint import Endpoint
from tests.unit.client.candidates import instance


class FakeProbe:
    """A call that is over when it is told so."""

    def __init__(self) -> None:
        self.over = False

    def done(self) -> bool:
        return self.over

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    async def details(self) -> str:
        return "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:1: Connection refused"


class FakeChannel:
    """A channel whose state is set."""

    def __init__(self) -> None:
        self.state = ChannelConnectivity.IDLE
        self.probe = FakeProbe()

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        return self.state

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return lambda *request, **options: self.probe


def test_a_connection_that_fails_between_two_looks_is_not_ready() -> None:
    """From READY straight to TRANSIENT_FAILURE an endpoint cannot be picked, though the reason is not known yet.

    A dispatcher that picks it looks at it and picks again; if it were READY still, that would never end.
    """
    channel = FakeChannel()
    endpoint = Endpoint(instance("a"), lambda options: channel)  # type: ignore[arg-type, return-value]
    channel.state = ChannelConnectivity.READY
    assert endpoint.look()
    assert endpoint.line.ready
    channel.state = ChannelConnectivity.TRANSIENT_FAILURE
    assert endpoint.look()
    assert "connecting" in repr(endpoint)
    channel.probe.over = True
    assert endpoint.look()
    assert "transient_failure" in repr(endpoint)
    assert endpoint.error == "Connection refused"
    assert not endpoint.look()
