"""A server's life as its clients see it: it serves before it is registered, and is drained before it stops.

    bind (the caller) → start → health SERVING → register → … → draining → health NOT_SERVING → deregister → stop

The drain, begun by SIGTERM, SIGINT, `Lifecycle.drain` or the end of the block, loses no call: clients first learn to
pick other instances, and are given time to, and then the calls that still run are waited for. A call that comes once
the server has begun to stop is lost: gRPC's core (1.85.1) ends it as CANCELLED. If the registry does not answer, the
time to notice is given after NOT_SERVING, by which alone clients can tell then. Every wait in it is bounded. A second
signal stops the server at once.

A server can also end by itself: an exception in the loop in which `grpc.aio` takes calls closes its ports, and leaves a
process that lives, keeps its lease and serves nobody (1.85.1; `wait_for_termination` goes on waiting). So a
`grpc.aio.Server` is looked at once a second. If it takes no calls any more it leaves the registry, and `Lifecycle.wait`
raises `ServerEnded`: let that end the process, for its supervisor to restart. A server that somebody stopped past its
lifecycle looks the same, so calls that still run are left to whoever stopped it until the block is left.

`meshctl drain` is something else: an operator takes an instance out of rotation, and may put it back with `undrain`.
The process then goes on as before, and stays healthy; only its registration says `draining`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import logging
import signal
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
from typing import Any, Protocol

import grpc.aio

from grpc_registry.arguments import check_seconds
from grpc_registry.contract import Registrar, Registration
from grpc_registry.errors import ServerEnded
from grpc_registry.instance import Instance, State, check_instance
from grpc_registry.waiting import first_of, stop

logger = logging.getLogger(__name__)

# Bounds in seconds for what needs the registry. With a delay of 1 and a grace of 10 they make a drain that ends well
# within the 30 s that Kubernetes gives a pod.
_TELL_SECONDS = 2.0
_CLOSE_SECONDS = 5.0
_LAST_TRY_SECONDS = 0.5

# Of the propagation delay, what clients have after NOT_SERVING whom the registry should have told, and did not reach.
# It comes on a connection that stands, so that milliseconds do.
_LATE_PART = 0.1

_LOOK_SECONDS = 1.0  # between two looks at the server: nobody is told of its end

_HEALTH_SERVING = 1  # grpc.health.v1: HealthCheckResponse.ServingStatus.SERVING


class Server(Protocol):
    """What is needed of a `grpc.aio.Server`, so that a server of another protocol can live the same life."""

    async def start(self) -> None:
        """Take calls from now on."""

    async def stop(self, grace: float | None) -> None:
        """Take no more, and let those that run go on for `grace` seconds; may be called again, to hurry."""


class Health(Protocol):
    """What is needed of `grpc_health.v1.health.aio.HealthServicer`, so that this package need not depend on it."""

    async def set(self, service: str, status: Any) -> None:
        """Set the status of a service; the empty name stands for the whole server."""

    async def enter_graceful_shutdown(self) -> None:
        """Set every service to NOT_SERVING, for good."""


class Phase(enum.Enum):
    """Where in its life a server is. It only ever goes forward."""

    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """A running server and its registrations; made by `serving`."""

    def __init__(self, server: Server, health: Health | None, *, propagation_delay: float, grace: float) -> None:
        self.phase = Phase.SERVING
        self.registrations: list[Registration] = []
        self._server = server
        self._health = health
        self._propagation_delay = propagation_delay
        self._grace = grace
        self._drain_task: asyncio.Task[None] | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._ended_by_itself = False
        self._stopped = asyncio.Event()
        self._hurry = asyncio.Event()

    async def wait(self) -> None:
        """Return when the server was drained and has stopped, whatever began that.

        Raises:
            ServerEnded: nothing began it but the server, which took no calls any more.
        """
        await self._stopped.wait()
        if self._ended_by_itself:
            raise ServerEnded("the server ended by itself, or was stopped past its lifecycle")

    async def drain(self) -> None:
        """Drain, stop the server, and return when it has stopped. Whoever asks second waits for the same drain."""
        self.begin_drain()
        await self._stopped.wait()

    def begin_drain(self) -> None:
        """Begin to drain, unless that has begun; returns at once."""
        if self._drain_task is None:
            self.phase = Phase.DRAINING
            self._drain_task = asyncio.create_task(self._drain(), name="grpc_registry drain")

    def stop_now(self) -> None:
        """Stop the server without waiting for anything: calls that run are cancelled; returns at once."""
        self._hurry.set()
        self.begin_drain()

    def begin_watch(self) -> None:
        """Drain, from now on, as soon as the server, which was started, takes no calls any more."""
        self._watch_task = asyncio.create_task(self._watch(), name="grpc_registry server")

    async def close(self) -> None:
        """Drain if nobody did; leaves nothing running, even when it is cancelled."""
        self.begin_drain()
        try:
            await self._stopped.wait()
        finally:
            await stop(*(task for task in (self._watch_task, self._drain_task) if task is not None))
            await self._server.stop(None)

    async def _watch(self) -> None:
        while _takes_calls(self._server):  # noqa: ASYNC110 - there is no event: nobody is told
            await asyncio.sleep(_LOOK_SECONDS)
        if self.phase is Phase.SERVING:
            logger.error("the server takes no calls any more: leaving the registry")
            self._ended_by_itself = True
            self.begin_drain()

    async def _drain(self) -> None:
        try:
            await first_of(self._drain_gently(), self._until_hurry())
        finally:
            if self._hurry.is_set() or not self._ended_by_itself:
                await self._server.stop(None)
            await self._leave(_LAST_TRY_SECONDS)  # nothing is left to do here after a gentle drain
            self.phase = Phase.STOPPED
            self._stopped.set()

    async def _drain_gently(self) -> None:
        logger.info("draining")
        tell = (registration.update(state=State.DRAINING) for registration in self.registrations)
        told = await _each(_TELL_SECONDS, tell)
        if told:
            await asyncio.sleep(self._propagation_delay)
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._propagation_delay * (_LATE_PART if told else 1))
        await self._leave(_CLOSE_SECONDS)
        if self._ended_by_itself and isinstance(self._server, grpc.aio.Server):
            await self._server.wait_for_termination(self._grace)
        else:
            await self._server.stop(self._grace)

    async def _leave(self, seconds: float) -> None:
        await _each(seconds, (registration.close() for registration in self.registrations))

    async def _until_hurry(self) -> None:
        await self._hurry.wait()
        logger.warning("stopping at once")


@contextlib.asynccontextmanager
async def serving(
    server: Server,
    registry: Registrar,
    *instances: Instance,
    health: Health | None = None,
    propagation_delay: float = 1.0,
    grace: float = 10.0,
    signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> AsyncGenerator[Lifecycle, None]:
    """Start `server`, whose ports are bound, and keep it registered as `instances`; drain and stop it in the end.

    The registry need not answer: the server serves, and is registered when it can be
    (`await lifecycle.registrations[0].wait_registered()`). A server that runs until it is told to stop:

        async with serving(server, registry, Instance("product", "10.0.0.1:50051"), health=health) as lifecycle:
            await lifecycle.wait()

    Args:
        health: a `grpc_health.v1.health.aio.HealthServicer` that was added to the server. The server's own status (the
            empty name) is set SERVING before it is registered; a drain sets every status NOT_SERVING.
        propagation_delay: seconds between telling clients to pick others, by the registry or else by health, and
            telling those that still come to go. A watch delivers in milliseconds; the default of 1 leaves room for a
            slow client.
        grace: seconds that running calls are given to finish.
        signals: what begins a drain, handled by the running loop, in the main thread; empty to handle none.

    Raises, before anything is started:
        TypeError: `server` is no `grpc.aio` server (nor one with such `start` and `stop`), or an instance is none.
        ValueError: there is no instance, or a time is negative or not finite.
    """
    if not all(inspect.iscoroutinefunction(getattr(server, name, None)) for name in ("start", "stop")):
        raise TypeError(f"server {server!r}: a grpc.aio server; for a blocking grpc.server see the README")
    if not instances:
        raise ValueError("serving needs at least one Instance: serving(server, registry, instance)")
    for instance in instances:
        check_instance(instance)
    check_seconds(propagation_delay, "propagation_delay", or_none=True)
    check_seconds(grace, "grace", or_none=True)
    lifecycle = Lifecycle(server, health, propagation_delay=propagation_delay, grace=grace)
    with _handled(signals, lifecycle):
        await server.start()
        lifecycle.begin_watch()
        try:
            if health is not None:
                await health.set("", _HEALTH_SERVING)
            if lifecycle.phase is Phase.SERVING:  # no signal came meanwhile
                lifecycle.registrations += [registry.register(instance) for instance in instances]
            yield lifecycle
        finally:
            await lifecycle.close()


def _takes_calls(server: Server) -> bool:
    """Whether it does, as far as can be seen: a `grpc.aio.Server` has that in a private part, others are not asked."""
    core = getattr(server, "_server", None) if isinstance(server, grpc.aio.Server) else None
    is_running = getattr(core, "is_running", None)
    return not callable(is_running) or bool(is_running())


@contextlib.contextmanager
def _handled(signals: Iterable[signal.Signals], lifecycle: Lifecycle) -> Generator[None, None, None]:
    """The first signal drains, the second stops at once; afterwards they mean what they meant before."""
    loop = asyncio.get_running_loop()
    again = False

    def received() -> None:
        nonlocal again
        if again:
            lifecycle.stop_now()
        else:
            lifecycle.begin_drain()  # unless that has begun, by whatever
        again = True

    with contextlib.ExitStack() as stack:
        for number in signals:
            stack.callback(signal.signal, number, signal.getsignal(number))
            stack.callback(loop.remove_signal_handler, number)
            loop.add_signal_handler(number, received)
        yield


async def _each(seconds: float, steps: Iterable[Coroutine[Any, Any, None]]) -> bool:
    """Await all `steps`, for at most `seconds`; what fails or takes longer is logged and left. Whether none was."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    if not tasks:
        return True
    try:
        done, late = await asyncio.wait(tasks, timeout=seconds)
    finally:
        await stop(*tasks)
    errors = [error for task in done if (error := task.exception()) is not None]
    for error in errors:
        logger.warning("draining goes on without the registry: %s", error)
    if late:
        logger.warning("draining goes on without the registry: no answer within %g s", seconds)
    return not errors and not late
