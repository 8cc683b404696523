from __future__ import annotations

import json
from typing import Any, cast

import grpc
from grpc import ChannelConnectivity
from starlette.requests import Request

from shop_services.gateway.probes import Probes


class Channel:
    """As much of a channel as the probes look at."""

    def __init__(self, state: ChannelConnectivity) -> None:
        self.state = state

    def get_state(self) -> ChannelConnectivity:
        return self.state


async def asked(probes: Probes) -> tuple[int, Any]:
    response = await probes.readyz(Request({"type": "http"}))
    return response.status_code, json.loads(bytes(response.body))


async def test_it_is_ready_while_every_channel_is() -> None:
    """Whatever other state a channel is in, its service is missing; one that comes back is not."""
    channels = {name: Channel(ChannelConnectivity.READY) for name in ("user", "product")}
    probes = Probes(cast("dict[str, grpc.aio.Channel]", channels))
    assert await asked(probes) == (200, {"ready": True, "missing": [], "draining": False})
    for state in set(ChannelConnectivity) - {ChannelConnectivity.READY}:
        channels["user"].state = state
        assert await asked(probes) == (503, {"ready": False, "missing": ["user"], "draining": False})
    channels["user"].state = ChannelConnectivity.READY
    assert (await asked(probes))[0] == 200


async def test_it_is_not_ready_while_it_drains() -> None:
    """A process that is about to stop is alive, but no longer ready."""
    draining = False
    probes = Probes({})
    probes.drain_when(lambda: draining)
    assert (await asked(probes))[0] == 200
    draining = True
    assert await asked(probes) == (503, {"ready": False, "missing": [], "draining": True})
    assert (await probes.healthz(Request({"type": "http"}))).status_code == 200
