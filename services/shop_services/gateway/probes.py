"""`/healthz` and `/readyz`: whether the process lives, and whether it should be sent requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_NO_STORE = {"cache-control": "no-store"}


class Probes:
    """Answers from what the channels know; it calls nobody, so it can be asked often.

    Args:
        channels: the channel to each service that the gateway needs.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels
        self._draining: Callable[[], bool] = lambda: False

    def drain_when(self, draining: Callable[[], bool]) -> None:
        """Be no longer ready as soon as `draining()` says so."""
        self._draining = draining

    def missing(self) -> list[str]:
        """The services of which no instance can be called now, sorted."""
        ready = grpc.ChannelConnectivity.READY
        return sorted(name for name, channel in self._channels.items() if channel.get_state() is not ready)

    async def healthz(self, request: Request) -> Response:
        """200 as long as the process can answer."""
        return JSONResponse({"alive": True}, headers=_NO_STORE)

    async def readyz(self, request: Request) -> Response:
        """200 if every service has an instance to call and this process is not about to stop, else 503."""
        missing, draining = self.missing(), self._draining()
        ready = not missing and not draining
        answer = {"ready": ready, "missing": missing, "draining": draining}
        return JSONResponse(answer, 200 if ready else 503, headers=_NO_STORE)
