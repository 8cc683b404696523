"""Brings calls and endpoints together: the I/O around `Balancer`, and the calls that wait for an endpoint.

Its tasks end in `close`: one reads the resolver, and one for each retired endpoint lets its calls finish. Calls have
none: a call that waits is an entry with, if it has a deadline, a timer, and starts when a change brings an endpoint; a
call that backs off before a retry is an entry with a timer, and looks for an endpoint when that ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Protocol

from grpc import ChannelConnectivity, StatusCode
from grpc.aio import UsageError

from grpc_balancer.balancer import Balancer, Changes
from grpc_balancer.endpoint import Connect, Endpoint
from grpc_balancer.load import Outcome
from grpc_balancer.outlook import Outlook
from grpc_balancer.pickers.contract import CallInfo, PickerFactory
from grpc_balancer.retry import Throttle
from grpc_balancer.watch import Watch
from grpc_registry import Resolution, Resolver, Unresolved
from grpc_registry.service_config import ServiceConfig

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between attempts at a resolver that fails, doubling from the first to the longest."""


_PICKS = 10
"""How often to pick again when the picked endpoint has just lost its connection; then the call finds out by itself."""


class Waiting(CallInfo, Protocol):
    """A call as it looks from here while no endpoint has it."""

    tried: frozenset[Endpoint]
    """Endpoints that it did not reach, or that failed it."""

    timeout: float | None
    wait_for_ready: bool | None

    def time_remaining(self) -> float | None: ...

    def start(self, endpoint: Endpoint, timeout: float | None) -> None:
        """Make an attempt at `endpoint`."""

    def fail(self, code: StatusCode, details: str) -> None:
        """End without an attempt."""

    def find_none(self, details: str) -> None:
        """There is no endpoint, nor hope of one: end, or back off."""

    def cancel(self) -> bool: ...


class Dispatcher:
    """The inside of a `Channel`. Made and used in one event loop."""

    def __init__(
        self,
        service: str,
        resolver: Resolver,
        policy: PickerFactory,
        connect: Connect,
        config: ServiceConfig,
        *,
        secure: bool,
        drain_seconds: float,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self.balancer: Balancer[Endpoint] = Balancer(service, policy, connect, rng, clock)
        self.config = config
        self.throttle = None if config.throttling is None else Throttle(config.throttling)
        self.secure = secure
        self.rng = rng
        self.clock = clock
        self.closed = False
        self._resolver = resolver
        self._drain_seconds = drain_seconds
        self.loop = asyncio.get_running_loop()
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: set[Endpoint] = set()
        self._waiting: dict[Waiting, asyncio.TimerHandle | None] = {}
        self._backing_off: dict[Waiting, asyncio.TimerHandle] = {}
        self._observers: list[asyncio.Future[None]] = []
        self._watch = Watch(self._look_at_all)

    # For calls

    def place(self, call: Waiting) -> None:
        """Start `call` at an endpoint, now if there is one, or let it wait for one.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        if self.closed:
            raise UsageError("Channel is closed.")
        endpoint = self.balancer.pick(call)
        if endpoint is not None and not endpoint.line.ready:
            endpoint = self._pick(call)
        if endpoint is not None:
            call.start(endpoint, call.timeout)
        else:
            self.start()
            self._admit(call)

    def place_again(self, call: Waiting, lost: Endpoint) -> None:
        """Start `call`, which has not reached `lost`, at an endpoint that it has not tried, or let it wait, or fail."""
        self._look_at(lost)
        if not self._start_if_possible(call):
            self._admit(call)

    def place_later(self, call: Waiting, delay: float) -> None:
        """In `delay` seconds start `call` at an endpoint that it has not tried, else at any, or let it wait or fail."""
        self._backing_off[call] = self.loop.call_later(delay, self._end_backoff, call)

    def _end_backoff(self, call: Waiting) -> None:
        self.forget(call)
        if not self._start_if_possible(call):
            call.tried = frozenset()
            if not self._start_if_possible(call):
                self._admit(call)

    def forget(self, call: Waiting) -> None:
        """The call waits no more."""
        for timer in (self._waiting.pop(call, None), self._backing_off.pop(call, None)):
            if timer is not None:
                timer.cancel()
        if self.closed:
            self._tell_observers()

    def finished(self, endpoint: Endpoint, outcome: Outcome, elapsed: float) -> None:
        """An attempt at `endpoint` has ended, `elapsed` seconds after it was started."""

    def _admit(self, call: Waiting) -> None:
        if self._is_hopeless(call):
            call.find_none(self.balancer.describe())
        else:
            remaining = call.time_remaining()
            timer = None if remaining is None else self.loop.call_later(remaining, self._expire, call)
            self._waiting[call] = timer

    def _expire(self, call: Waiting) -> None:
        self.forget(call)
        call.fail(StatusCode.DEADLINE_EXCEEDED, f"Deadline Exceeded while waiting: {self.balancer.describe()}")

    def _serve_waiting(self) -> None:
        for call in list(self._waiting):
            if call not in self._waiting:
                continue  # cancelled meanwhile, by the done callback of another one
            if call.wait_for_ready:
                call.tried = frozenset()  # something has changed since it was tried
            if self._start_if_possible(call):
                self.forget(call)
            elif self._is_hopeless(call):
                self.forget(call)
                call.find_none(self.balancer.describe())

    def _start_if_possible(self, call: Waiting) -> bool:
        try:
            endpoint = self._pick(call)
        except Exception as error:  # somebody's own policy; nobody to raise it to but the call
            _log.exception("the policy of the channel to %r failed", self.balancer.service)
            call.fail(StatusCode.INTERNAL, f"the policy failed: {error!r}")
            return True
        if endpoint is None:
            return False
        call.start(endpoint, call.time_remaining())
        return True

    def _pick(self, call: Waiting) -> Endpoint | None:
        balancer, endpoint = self.balancer, None
        for _ in range(_PICKS):
            endpoint = balancer.pick_another(call, call.tried) if call.tried else balancer.pick(call)
            if endpoint is None or endpoint.line.ready:
                break
            self._look_at(endpoint)  # its connection was lost since the last look
        return endpoint

    def _is_hopeless(self, call: Waiting) -> bool:
        return not call.wait_for_ready and self.balancer.outlook(call.tried) is Outlook.NONE

    # For the channel

    def start(self) -> None:
        """Begin to resolve and connect. Idempotent."""
        if not self._started and not self.closed:
            self._started = True
            self._own(self._follow_resolver())

    @property
    def state(self) -> ChannelConnectivity:
        """As gRPC's round_robin joins the states of its connections; IDLE before the start, SHUTDOWN after close."""
        if self.closed:
            return ChannelConnectivity.SHUTDOWN
        if not self._started:
            return ChannelConnectivity.IDLE
        match self.balancer.outlook():
            case Outlook.READY:
                return ChannelConnectivity.READY
            case Outlook.PENDING:
                return ChannelConnectivity.CONNECTING
            case Outlook.NONE:
                return ChannelConnectivity.TRANSIENT_FAILURE

    async def change(self) -> None:
        """Return at the next change of anything that `state` may depend on."""
        observer = self.loop.create_future()
        self._observers.append(observer)
        await observer

    async def close(self, grace: float | None) -> None:
        """Refuse new calls, give the present ones `grace` seconds (None: none), cancel the rest, end every task."""
        if self.closed:
            return
        self.closed = True
        self._tell_observers()
        if grace:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._all_calls_ended()
        for call in [*self._waiting, *self._backing_off]:
            call.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watch.stop()
        await asyncio.gather(*(endpoint.close() for endpoint in self._all_endpoints()))

    async def _all_calls_ended(self) -> None:
        while True:
            busy = [endpoint for endpoint in self._all_endpoints() if endpoint.load.count]
            if busy:
                await busy[0].load.wait_idle()
            elif self._waiting or self._backing_off:
                await self.change()
            else:
                return

    def _all_endpoints(self) -> list[Endpoint]:
        return [*self.balancer.endpoints, *self._retiring]

    # Changes

    async def _follow_resolver(self) -> None:
        """Apply what the resolver says until it has no more to say; what it said last stays in use."""
        service, pause = self.balancer.service, _FIRST_PAUSE
        while True:
            try:
                async with aclosing(self._resolver.watch(service)) as resolutions:
                    async for resolution in resolutions:
                        pause = _FIRST_PAUSE
                        self._resolved(resolution)
                self._resolved(Unresolved(service, "the registry was closed"))
                return
            except Exception as error:  # a resolver should not fail, nor should its failure end the resolution for good
                if pause == _FIRST_PAUSE:
                    _log.warning("the resolver of %r failed; what it said last stays in use", service, exc_info=True)
                self._resolved(Unresolved(service, f"the resolver failed: {error!r}"))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _resolved(self, resolution: Resolution) -> None:
        self._carry_out(self.balancer.apply(resolution))
        self._serve_waiting()

    def _look_at_all(self) -> bool:
        changes = [self._look_at(endpoint) for endpoint in self.balancer.endpoints]
        self._serve_waiting()
        return any(changes)

    def _look_at(self, endpoint: Endpoint) -> bool:
        changed = endpoint not in self._retiring and endpoint.look()
        if changed:
            self._carry_out(self.balancer.connectivity_changed(endpoint))
        return changed

    def _carry_out(self, changes: Changes[Endpoint]) -> None:
        for endpoint in changes.open:
            endpoint.look()
        for endpoint in changes.retire:
            self._retiring.add(endpoint)
            self._own(self._let_finish(endpoint))
        self._watch.hurry()
        self._tell_observers()

    async def _let_finish(self, endpoint: Endpoint) -> None:
        """Close a retired endpoint once its calls have ended, or have had their time."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                await endpoint.load.wait_idle()
        except TimeoutError:
            endpoint.expelled = True
        await endpoint.close()
        self._retiring.discard(endpoint)
        self._tell_observers()

    def _tell_observers(self) -> None:
        observers, self._observers = self._observers, []
        for observer in observers:
            if not observer.done():
                observer.set_result(None)

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the channel to %r failed", self.balancer.service, exc_info=error)

    def __repr__(self) -> str:
        waiting = f", {len(self._waiting)} calls waiting" if self._waiting else ""
        backing_off = f", {len(self._backing_off)} calls backing off" if self._backing_off else ""
        retiring = f", {len(self._retiring)} retiring" if self._retiring else ""
        return f"{self.state.name.lower()} {self.balancer!r}{retiring}{waiting}{backing_off}"
