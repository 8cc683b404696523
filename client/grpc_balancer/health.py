"""Asking a server how it is, by grpc.health.v1: `HealthWatch` for as long as it is connected, `probe` once.

Clients watch only if the service config says so (`healthCheckConfig`, gRFC A17). A connected server that says that it
does not serve is then treated as if its connection had failed. Watching holds one stream on the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import grpc
from grpc import ChannelConnectivity, StatusCode

from grpc_balancer.health_messages import SERVING, STATUSES, decode_response, encode_request

_log = logging.getLogger(__name__)

_WATCH = "/grpc.health.v1.Health/Watch"
_CHECK = ("unary_unary", "/grpc.health.v1.Health/Check", False)

_NO_ANSWER = (StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE)

# gRFC A17: "the client will use exponential backoff between attempts". The numbers, in seconds, are C-core's for that,
# except for the longest pause (120 s there), which is how late it can be noticed that a server recovered.
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH, _JITTER = 1.0, 30.0, 1.6, 0.2

Verdict = tuple[ChannelConnectivity, str]
"""What the state of a connected endpoint is by its health, and why, for a person."""

_NO_ANSWER_YET: Verdict = (ChannelConnectivity.CONNECTING, "no answer to the health check yet")
_HEALTHY: Verdict = (ChannelConnectivity.READY, "")


class HealthWatch:
    """Follows the health of `service` at the server to which `channel` leads, while it is told that there is one.

    `verdict` is READY if the server says that it serves, TRANSIENT_FAILURE if it says anything else or does not answer,
    CONNECTING until the first answer, and when a stream that was answered breaks, until the next. `on_change` is called
    when the server or the stream changed it.
    """

    def __init__(self, channel: grpc.aio.Channel, service: str, on_change: Callable[[], object], rng: Random) -> None:
        self.verdict = _NO_ANSWER_YET
        self._ask: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(_WATCH)
        self._request = encode_request(service)
        self._service = service
        self._on_change = on_change
        self._rng = rng
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._said_unimplemented = False

    def connection_changed(self, ready: bool) -> None:
        """There is a connection from now on, or there is none. Idempotent."""
        if ready and self._task is None:
            # gRFC A17: "When a subchannel first establishes a connection, [...] the client will immediately start the
            # Watch() call [...]. The subchannel will stay in state CONNECTING until it receives the first" response.
            self._task = asyncio.get_running_loop().create_task(self._watch())
            self._ending.add(self._task)
            self._task.add_done_callback(self._ended)
        elif not ready:
            # gRFC A17: "when the backend sends a GOAWAY, the client will cancel the Watch() call"; else the server,
            # which stops, would have to wait for it.
            self.stop()

    def stop(self) -> None:
        """Watch no more, until there is another connection. Before the channel is closed, await `stopped` too."""
        self.verdict = _NO_ANSWER_YET
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing for `stopped` to wait for."""
        return not self._ending

    async def stopped(self) -> None:
        """Return when what `stop` ended has ended."""
        while self._ending:
            await asyncio.wait(self._ending)

    async def _watch(self) -> None:
        clock, pause = asyncio.get_running_loop().time, _FIRST_PAUSE
        while True:
            # A connection that is lost and found before anybody notices is waited for.
            call = self._ask(self._request, wait_for_ready=True)
            answered_at = None
            try:
                async for message in call:
                    answered_at = answered_at or clock()
                    self._say(_verdict_of(message))
                reason = "the health check ended"
            except grpc.aio.AioRpcError as error:
                if error.code() is StatusCode.UNIMPLEMENTED:
                    self._do_without()
                    return
                reason = f"the health check failed: {error.code().name}: {error.details()}"
            finally:
                call.cancel()
            if answered_at is not None:
                # gRFC A17: "When the client receives a message from the server on a given call, the backoff state is
                # reset, so the next attempt will occur immediately". Not so if all of it took no time: a server that
                # answers and hangs up would be asked again and again.
                pause = _FIRST_PAUSE
                if clock() - answered_at >= _FIRST_PAUSE:
                    # Nothing speaks against the server. A connection that has reached its greatest age ends so when
                    # there is a new one already, and calls that find no other endpoint had better wait than fail.
                    self._say(_NO_ANSWER_YET)
                    continue
            # gRFC A17: "If the Watch() call returns any other status, the subchannel will transition to [...]
            # TRANSIENT_FAILURE and will retry the call."
            self._say((ChannelConnectivity.TRANSIENT_FAILURE, reason))
            await asyncio.sleep(pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def _do_without(self) -> None:
        # gRFC A17: "If the Watch() call fails with status UNIMPLEMENTED, the client will act as if health checking is
        # disabled. [...] it will treat the channel as healthy [...]. However, the client will record [...] that"
        if not self._said_unimplemented:
            self._said_unimplemented = True
            _log.warning("a server cannot be asked for %r: no grpc.health.v1; so it counts as healthy", self._service)
        self._say(_HEALTHY)

    def _say(self, verdict: Verdict) -> None:
        if verdict != self.verdict:
            self.verdict = verdict
            self._on_change()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a health check of %r failed", self._service, exc_info=error)

    def __repr__(self) -> str:
        state, reason = self.verdict
        return f"<HealthWatch {self._service!r}: {state.name.lower()}{reason and f', {reason}'}>"


class Asked(Protocol):
    """Where a probe goes: `endpoint.Line`."""

    def multicallable(self, route: tuple[str, str, bool]) -> Any: ...


async def probe(line: Asked, seconds: float) -> bool:
    """Whether the server answers over its connection within that time, whatever it says: UNIMPLEMENTED will do.

    Only UNAVAILABLE is no answer: gRPC says so itself of a connection that is lost, and no call can tell who said it.
    """
    call = line.multicallable(_CHECK)(b"", timeout=seconds)
    try:
        return await call.code() not in _NO_ANSWER
    finally:
        call.cancel()


def _verdict_of(message: bytes) -> Verdict:
    status = decode_response(message)
    if status == SERVING:
        return _HEALTHY
    name = "something unreadable" if status is None else STATUSES.get(status, str(status))
    return ChannelConnectivity.TRANSIENT_FAILURE, f"the server says {name}"
