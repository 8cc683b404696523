"""Who wants to know of a channel's connectivity: `grpc.Channel.subscribe`, behind `grpc.channel_ready_future`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context

from grpc import ChannelConnectivity

from grpc_balancer.sync.session import Session, Tenancy

Callback = Callable[[ChannelConnectivity], None]


class _Subscription:
    """One callback. It is called in the callbacks' thread, with each state that differs from the one before."""

    def __init__(self, callback: Callback, tenancy: Tenancy) -> None:
        self.callback = callback
        self._tenancy = tenancy
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def start(self) -> None:
        self._tenancy.thread.post(self._begin, context=Context())

    def end(self) -> None:
        """Call it no more. In any thread."""
        self._ended = True
        self._tenancy.thread.post(self._stop)

    def _begin(self) -> None:
        if not self._ended:
            self._task = self._tenancy.thread.own(self._follow())

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        channel = self._tenancy.channel
        while (state := channel.get_state()) is not ChannelConnectivity.SHUTDOWN:
            self._tenancy.thread.callbacks.put(self._deliver, state)
            await channel.wait_for_state_change(state)

    def _deliver(self, state: ChannelConnectivity) -> None:
        if not self._ended:
            self.callback(state)


class Subscriptions:
    """Those of one channel. Thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing = threading.Lock()
        self._subscriptions: list[_Subscription] = []

    def add(self, callback: Callback) -> None:
        subscription = _Subscription(callback, self._session.open())
        with self._changing:
            self._subscriptions.append(subscription)
        subscription.start()

    def remove(self, callback: Callback) -> None:
        """End the first subscription of `callback`, if there is one."""
        with self._changing:
            found = next((each for each in self._subscriptions if each.callback == callback), None)
            if found is not None:
                self._subscriptions.remove(found)
        if found is not None:
            found.end()

    def end(self) -> None:
        """End all."""
        with self._changing:
            ended, self._subscriptions = self._subscriptions, []
        for subscription in ended:
            subscription.end()
