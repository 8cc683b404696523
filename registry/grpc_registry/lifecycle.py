"""A server's life as its clients see it: it serves before it is registered, and is drained before it stops.

    bind (the caller) → start → health SERVING → register → … → draining → health NOT_SERVING → deregister → stop

The drain, begun by SIGTERM, SIGINT, `Lifecycle.drain` or the end of the block, loses no call: clients first learn to
pick other instances, and are given time to, and then the calls that still run are waited for. It goes on without a
registry that does not answer, and every wait in it is bounded. A second signal stops the server at once.

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

from grpc_registry.arguments import check_seconds
from grpc_registry.contract import Registrar, Registration
from grpc_registry.instance import Instance, State, check_instance
from grpc_registry.waiting import first_of, stop

logger = logging.getLogger(__name__)

# Bounds in seconds for what needs the registry. With a delay of 1 and a grace of 10 they make a drain that ends well
# within the 30 s that Kubernetes gives a pod.
_TELL_SECONDS = 2.0
_CLOSE_SECONDS = 5.0
_LAST_TRY_SECONDS = 0.5

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
        self._stopped = asyncio.Event()
        self._hurry = asyncio.Event()

    async def wait(self) -> None:
        """Return when the server was drained and has stopped, whatever began that."""
        await self._stopped.wait()

    async def drain(self) -> None:
        """Drain, stop the server, and return when it has stopped. Whoever asks second waits for the same drain."""
        self.begin_drain()
        await self.wait()

    def begin_drain(self) -> None:
        """Begin to drain, unless that has begun; returns at once."""
        if self._drain_task is None:
            self.phase = Phase.DRAINING
            self._drain_task = asyncio.create_task(self._drain(), name="grpc_registry drain")

    def stop_now(self) -> None:
        """Stop the server without waiting for anything: calls that run are cancelled; returns at once."""
        self._hurry.set()
        self.begin_drain()

    async def close(self) -> None:
        """Drain if nobody did; leaves nothing running, even when it is cancelled."""
        self.begin_drain()
        try:
            await self.wait()
        finally:
            if self._drain_task is not None:
                await stop(self._drain_task)
            await self._server.stop(None)

    async def _drain(self) -> None:
        try:
            await first_of(self._drain_gently(), self._until_hurry())
        finally:
            await self._server.stop(None)
            await self._leave(_LAST_TRY_SECONDS)  # nothing is left to do here after a gentle drain
            self.phase = Phase.STOPPED
            self._stopped.set()

    async def _drain_gently(self) -> None:
        logger.info("draining")
        await _each(_TELL_SECONDS, (registration.update(state=State.DRAINING) for registration in self.registrations))
        await asyncio.sleep(self._propagation_delay)
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        await self._leave(_CLOSE_SECONDS)
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
        propagation_delay: seconds between telling clients to pick others and telling those that still come to go. A
            watch delivers in milliseconds; the default of 1 leaves room for a slow client.
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
        try:
            if health is not None:
                await health.set("", _HEALTH_SERVING)
            if lifecycle.phase is Phase.SERVING:  # no signal came meanwhile
                lifecycle.registrations += [registry.register(instance) for instance in instances]
            yield lifecycle
        finally:
            await lifecycle.close()


@contextlib.contextmanager
def _handled(signals: Iterable[signal.Signals], lifecycle: Lifecycle) -> Generator[None, None, None]:
    """The first signal drains, the second stops at once; afterwards they mean what they meant before."""
    loop = asyncio.get_running_loop()

    def received() -> None:
        if lifecycle.phase is Phase.SERVING:
            lifecycle.begin_drain()
        else:
            lifecycle.stop_now()

    with contextlib.ExitStack() as stack:
        for number in signals:
            stack.callback(signal.signal, number, signal.getsignal(number))
            stack.callback(loop.remove_signal_handler, number)
            loop.add_signal_handler(number, received)
        yield


async def _each(seconds: float, steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all `steps`, for at most `seconds`; what fails or takes longer is logged and left."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    if not tasks:
        return
    try:
        done, late = await asyncio.wait(tasks, timeout=seconds)
    finally:
        await stop(*tasks)
    for task in done:
        if (error := task.exception()) is not None:
            logger.warning("draining goes on without the registry: %s", error)
    if late:
        logger.warning("draining goes on without the registry: no answer within %g s", seconds)
