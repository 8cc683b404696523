"""The other instances of the cache service, and what the registry says of this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Protocol

from grpc_registry import Instance, Registration, Resolution, Resolver, Snapshot, State

_LOOK_SECONDS = 0.01


class Connected(Protocol):
    """What is asked of a `grpc_balancer.Channel`."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that can be called now; the same object if nothing changed."""


class Neighbours:
    """A resolver that leaves out the instance `instance_id`, so that its channel never dials the process it is in.

    What it reads on the way for the channel, and tells `changed` of: `me` is that instance, None while it is not
    registered, or drains; `others` are all others, draining ones too.
    """

    def __init__(self, resolver: Resolver, instance_id: str) -> None:
        self._resolver = resolver
        self._id = instance_id
        self._heard = asyncio.Event()
        self.me: Instance | None = None
        self.others: tuple[Instance, ...] = ()
        self.changed: Callable[[], object] = lambda: None
        self._registration: Registration | None = None

    @property
    def registered(self) -> bool:
        """Whether this instance is known to hold its lease: else others may have been told that it is gone.

        It knows that before they do, whereas `me` is the last that was heard of a registry that may be out of reach.
        """
        return self._registration is not None and self._registration.registered

    def registering(self, registration: Registration) -> None:
        """This instance's registration has begun."""
        self._registration = registration

    async def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        """As `grpc_registry.Resolver.watch`, of the others."""
        async with aclosing(self._resolver.watch(service)) as resolutions:
            async for resolution in resolutions:
                yield self._without_me(resolution)

    async def meet(self, channel: Connected, seconds: float) -> None:
        """Return when all others that serve can be called, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()
                # Connecting takes milliseconds, and tells nobody.
                while len(channel.instances) < sum(one.state is State.SERVING for one in self.others):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)

    def _without_me(self, resolution: Resolution) -> Resolution:
        if not isinstance(resolution, Snapshot):
            return resolution
        mine = (one for one in resolution.instances if one.id == self._id and one.state is State.SERVING)
        self.me = next(mine, None)
        self.others = tuple(one for one in resolution.instances if one.id != self._id)
        self.changed()
        self._heard.set()
        return replace(resolution, instances=self.others)
