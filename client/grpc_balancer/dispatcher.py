"""Brings calls and endpoints together: the I/O around `Balancer`, and the calls that wait for an endpoint.

Its tasks end in `close`: one reads the resolver, one the service config. Calls have none: a call that waits is an
entry with, if it has a deadline, a timer, and starts when a change brings an endpoint; a call that backs off before a
retry is an entry with a timer, and looks for an endpoint when that ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from grpc import ChannelConnectivity, StatusCode
from grpc.aio import UsageError

from grpc_balancer.balancer import Balancer
from grpc_balancer.connections import Connections
from grpc_balancer.endpoint import Connect, Endpoint
from grpc_balancer.explanation import Explanation
from grpc_balancer.following import follow
from grpc_balancer.hosts import call_speaks_of_the_machine
from grpc_balancer.listener import Listener
from grpc_balancer.live_config import LiveConfig
from grpc_balancer.load import Outcome
from grpc_balancer.outlook import Outlook
from grpc_balancer.pickers import uses_latency
from grpc_balancer.pickers.contract import CallInfo
from grpc_balancer.retry import Throttle
from grpc_balancer.rules import OutstandingLimit, Rules
from grpc_registry import ConfigResolution, Resolution, Resolver, Unresolved

_log = logging.getLogger(__name__)

_PICKS = 10
"""How often to pick again when the picked endpoint has just lost its connection; then the call finds out by itself."""

_LOOK_SECONDS = 0.005
"""For how long a connection that was READY is taken to be so. A call that meets a lost one goes on to another."""

_CONFIG_SECONDS = 5.0
"""How long the first calls wait for the registry's service config, beyond its instances."""


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

    def looks_again(self, delay: float) -> None:
        """It is to look for an endpoint again, after so many seconds."""

    def cancel(self) -> bool: ...


class Dispatcher:
    """The inside of a `Channel`. Made and used in one event loop."""

    def __init__(
        self,
        service: str,
        resolver: Resolver,
        connect: Connect,
        live: LiveConfig,
        rules: Rules,
        *,
        follows_config: bool,
        limit: OutstandingLimit | None,
        on_pick: Callable[[Explanation], object] | None,
        secure: bool,
        renews: bool,
        drain_seconds: float,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        plan = live.plan
        rules = replace(rules, outlier_detection=plan.outlier_detection)
        self.balancer: Balancer[Endpoint] = Balancer(service, plan.factory, connect, rng, clock, rules)
        self.config = plan.config
        self.throttle = Throttle.of(plan.config.throttling)
        self.secure = secure
        self._renews = renews
        self.rng = rng
        self.clock = clock
        self.closed = False
        self.listener: Listener | None = None
        self.loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._live = live
        self._follows_config = follows_config
        self._config_known = asyncio.Event()
        self._most = math.inf if limit is None else limit.per_endpoint
        self._queue = 0 if limit is None else limit.queue
        self._on_pick = on_pick
        self._policy_errors: set[type[Exception]] = set()
        self.wants_successes = self._counts_successes()
        """Whether to call `finished` for attempts that succeeded, too."""
        self._started = False
        self._waiting: dict[Waiting, asyncio.TimerHandle | None] = {}
        self._backing_off: dict[Waiting, asyncio.TimerHandle] = {}
        self._observers: list[asyncio.Future[None]] = []
        self._connections = Connections(
            self.balancer,
            drain_seconds=drain_seconds,
            rng=rng,
            changed=self._changed,
            ejection_changed=self._tell_ejection,
        )
        self._connections.watch_health(plan.config.health_service)

    @property
    def policy(self) -> str:
        """The name of the policy in force."""
        return self._live.plan.balancing.policy

    # For calls

    def place(self, call: Waiting) -> None:
        """Start `call` at an endpoint, now if there is one, or let it wait for one.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        if self.closed:
            raise UsageError("Channel is closed.")
        try:
            endpoint = self.balancer.pick(call)
            if endpoint is not None:
                now = self.clock()
                if endpoint.load.count >= self._most or now - endpoint.looked_at > _LOOK_SECONDS:
                    endpoint.looked_at = now
                    if endpoint.load.count >= self._most or not endpoint.line.ready:
                        endpoint = self._pick(call)
        except Exception as error:
            self._fail_for_policy(call, error)
            return
        if endpoint is not None:
            if self._on_pick is not None:
                self._tell_pick(call, endpoint)
            call.start(endpoint, call.timeout)
        else:
            self.start()
            self._admit(call)

    def place_again(self, call: Waiting, lost: Endpoint) -> None:
        """Start `call`, which has not reached `lost`, at an endpoint that it has not tried, or let it wait, or fail."""
        call.looks_again(0.0)
        self._connections.look_at(lost)
        if not self._start_if_possible(call):
            self._admit(call)

    def place_later(self, call: Waiting, delay: float) -> None:
        """In `delay` seconds start `call` at an endpoint that it has not tried, else at any, or let it wait or fail."""
        call.looks_again(delay)
        self._backing_off[call] = self.loop.call_later(delay, self._end_backoff, call)

    def _end_backoff(self, call: Waiting) -> None:
        self.forget(call)
        if not self._start_if_possible(call):
            call.tried = frozenset()
            if not self._start_if_possible(call):
                self._admit(call)

    def start_now(self, call: Waiting) -> bool:
        """Start `call` at an endpoint that it has not tried, if there is one at this moment; else do nothing.

        For a call that has other attempts in progress, and need not wait for one more.
        """
        return self._start_if_possible(call)

    def forget(self, call: Waiting) -> None:
        """The call waits no more."""
        for timer in (self._waiting.pop(call, None), self._backing_off.pop(call, None)):
            if timer is not None:
                timer.cancel()
        if self.closed:
            self._tell_observers()

    def finished(self, endpoint: Endpoint, outcome: Outcome, elapsed: float | None, details: str = "") -> None:
        """An attempt at `endpoint` has ended, with these details if it failed.

        It took `elapsed` seconds; None if that was not the endpoint's doing.
        """
        endpoint.load.record(outcome, elapsed)
        if outcome is Outcome.SUCCEEDED:
            endpoint.record.succeeded()
        elif outcome is Outcome.FAILED:
            endpoint.looked_at = -math.inf  # the connection may have gone with it
            if self.balancer.failed(endpoint):
                self._tell_ejection(endpoint)
        if details and call_speaks_of_the_machine(details):  # the connection may still look READY
            self._connections.doubt_machine(endpoint)
        if self._waiting and self._most is not math.inf:
            self._serve_waiting()

    def _counts_successes(self) -> bool:
        return self._most is not math.inf or uses_latency(self.policy)

    def explain(self, call: CallInfo, tried: Collection[Endpoint] = ()) -> Explanation:
        """How a pick for `call` would stand now, after it has `tried` these."""
        rows = self.balancer.explain(call, self._full(), tried)
        why_none = "" if any(not row.left_out for row in rows) else self._why_none()
        return Explanation(self.balancer.service, self.policy, call.method, rows, self.balancer.stale_for, why_none)

    def _tell_pick(self, call: Waiting, endpoint: Endpoint) -> None:
        try:
            explanation = self.explain(call, call.tried)
            rows = [replace(row, picked=row.instance is endpoint.instance) for row in explanation.instances]
            if self._on_pick is not None:
                self._on_pick(replace(explanation, instances=rows, why_none=""))
        except Exception:  # who looks on must not fail the call
            _log.exception("the on_pick of the channel to %r failed", self.balancer.service)

    def _tell_ejection(self, endpoint: Endpoint) -> None:
        # These cannot flood: an endpoint stays ejected for the longer, the more often it is.
        name, service = _name(endpoint), self.balancer.service
        fields = {"mesh_service": service, "mesh_instance": name[0], "mesh_address": name[1]}
        if endpoint.record.ejected:
            _log.warning("ejected %s %s of %r: its calls fail or take too long", *name, service, extra=fields)
        else:
            _log.info("%s %s of %r is not ejected any more", *name, service, extra=fields)

    def _admit(self, call: Waiting) -> None:
        if self._is_hopeless(call) or self._is_too_much(call):
            call.find_none(self._why_none())
        else:
            remaining = call.time_remaining()
            timer = None if remaining is None else self.loop.call_later(remaining, self._expire, call)
            self._waiting[call] = timer

    def _is_too_much(self, call: Waiting) -> bool:
        """Whether every endpoint has all the calls it may have, and as many wait as may."""
        return len(self._waiting) >= self._queue and self._is_full(call)

    def _is_full(self, call: Waiting) -> bool:
        """Whether it was for the limit that no endpoint was picked for `call`."""
        return self._most is not math.inf and self.balancer.outlook(call.tried) is Outlook.READY

    def _full(self) -> set[Endpoint]:
        if self._most is math.inf:
            return set()
        return {endpoint for endpoint in self.balancer.endpoints if endpoint.load.count >= self._most}

    def _why_none(self) -> str:
        if self._full():
            calls = f"{self._most:.0f} calls in progress at each endpoint, {len(self._waiting)} waiting"
            return f"{self.balancer.service!r} is at its limit: {calls}"
        return self.balancer.describe()

    def _expire(self, call: Waiting) -> None:
        self.forget(call)
        call.fail(StatusCode.DEADLINE_EXCEEDED, f"Deadline Exceeded while waiting: {self._why_none()}")

    def _serve_waiting(self) -> None:
        if not self._waiting:
            return
        outlook = self.balancer.outlook()
        for call in list(self._waiting):
            if call not in self._waiting:
                continue  # cancelled meanwhile, by the done callback of another one
            if call.wait_for_ready:
                call.tried = frozenset()  # something has changed since it was tried
            # Thousands may wait for hundreds of connections: do not look at all of these for each of them.
            if not call.tried and (outlook is Outlook.PENDING or (outlook is Outlook.NONE and call.wait_for_ready)):
                continue
            if self._start_if_possible(call):
                continue
            if self._is_hopeless(call):
                self.forget(call)
                call.find_none(self._why_none())
            elif not call.tried and self._is_full(call):
                return  # nor is there an endpoint for those that came after it

    def _start_if_possible(self, call: Waiting) -> bool:
        try:
            endpoint = self._pick(call)
        except Exception as error:
            self._fail_for_policy(call, error)
            return True
        if endpoint is None:
            return False
        self.forget(call)  # first, since what the start brings about may have the waiting ones served again
        if self._on_pick is not None:
            self._tell_pick(call, endpoint)
        call.start(endpoint, call.time_remaining())
        return True

    def _fail_for_policy(self, call: Waiting, error: Exception) -> None:
        """Somebody's own policy raised an error, or picked nothing. It is told to the log once for each kind."""
        self.forget(call)
        if type(error) not in self._policy_errors:
            self._policy_errors.add(type(error))
            _log.error("the policy of the channel to %r failed", self.balancer.service, exc_info=error)
        call.fail(StatusCode.INTERNAL, f"the policy failed: {error!r}")

    def _pick(self, call: Waiting) -> Endpoint | None:
        balancer, endpoint = self.balancer, None
        for _ in range(_PICKS):
            full = self._full()
            endpoint = balancer.pick_another(call, call.tried, full) if call.tried or full else balancer.pick(call)
            if endpoint is None or endpoint.line.ready:
                break
            self._connections.look_at(endpoint)  # its connection was lost since the last look
        return endpoint

    def _is_hopeless(self, call: Waiting) -> bool:
        return not call.wait_for_ready and self.balancer.outlook(call.tried) is Outlook.NONE

    # For the channel

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of calls made from now on, and of outliers."""
        self.listener = listener
        self.balancer.tell_outliers(listener.outlier_found)

    @property
    def waiting(self) -> int:
        """How many calls wait for an endpoint."""
        return len(self._waiting)

    @property
    def retiring(self) -> Collection[Endpoint]:
        """Endpoints that left, and finish their calls."""
        return self._connections.retiring

    def start(self) -> None:
        """Begin to resolve and connect. Idempotent."""
        if not self._started and not self.closed:
            self._started = True
            self._connections.own(self._follow_config())
            self._connections.own(self._follow_resolver())
            if self._renews:
                self._connections.own(self._connections.renew())

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
        try:
            if grace:
                with suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        await self._all_calls_ended()
        finally:  # who waits here may be cancelled
            self._cancel_waiting()
            try:
                await self._connections.close()
            finally:
                self._cancel_waiting()  # attempts that failed meanwhile wanted others to follow
                if self.listener is not None:
                    self.listener.closed()

    def _cancel_waiting(self) -> None:
        for call in [*self._waiting, *self._backing_off]:
            call.cancel()

    async def _all_calls_ended(self) -> None:
        while True:
            busy = [endpoint for endpoint in self._connections.all if endpoint.load.count]
            if busy:
                await busy[0].load.wait_idle()
            elif self._waiting or self._backing_off:
                await self.change()
            else:
                return

    # Changes

    async def _follow_resolver(self) -> None:
        """Apply what the resolver says until it has no more to say; what it said last stays in use."""
        service = self.balancer.service
        with suppress(TimeoutError):  # else the first calls would go by another config than those that follow
            async with asyncio.timeout(_CONFIG_SECONDS):
                await self._config_known.wait()
        await follow(
            f"the resolver of {service!r}",
            lambda: self._resolver.watch(service),
            self._resolved,
            lambda reason: self._resolved(Unresolved(service, reason)),
        )
        self._resolved(Unresolved(service, "the registry was closed"))

    async def _follow_config(self) -> None:
        service, source = self.balancer.service, getattr(self._resolver, "watch_config", None)
        if self._follows_config and source is not None:
            await follow(
                f"the service config of {service!r}",
                lambda: source(service),
                self._configured,
                lambda _: self._config_known.set(),
            )
        self._config_known.set()

    def _configured(self, resolution: ConfigResolution) -> None:
        if self._live.take(resolution):
            plan = self._live.plan
            if plan.config.throttling != self.config.throttling:
                self.throttle = Throttle.of(plan.config.throttling)
            self.config = plan.config
            self.balancer.reconfigure(plan.factory, plan.outlier_detection)
            self.wants_successes = self._counts_successes()
            self._connections.watch_health(plan.config.health_service)
            self._changed()
        self._config_known.set()

    def _resolved(self, resolution: Resolution) -> None:
        self._connections.carry_out(self.balancer.apply(resolution))
        self._changed()

    def _changed(self) -> None:
        self._serve_waiting()
        self._tell_observers()

    def _tell_observers(self) -> None:
        observers, self._observers = self._observers, []
        for observer in observers:
            if not observer.done():
                observer.set_result(None)

    def __repr__(self) -> str:
        waiting = f", {len(self._waiting)} calls waiting" if self._waiting else ""
        backing_off = f", {len(self._backing_off)} calls backing off" if self._backing_off else ""
        retiring = f", {number} retiring" if (number := len(self._connections.retiring)) else ""
        return f"{self.state.name.lower()} {self.balancer!r}{retiring}{waiting}{backing_off}"


def _name(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.instance.id, endpoint.instance.address
