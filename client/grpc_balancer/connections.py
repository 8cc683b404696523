"""The connections of a service's endpoints: opened, looked at, kept healthy, closed when their calls have ended."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from grpc_balancer.balancer import Balancer, Changes
from grpc_balancer.endpoint import Endpoint, Line
from grpc_balancer.watch import Watch

_log = logging.getLogger(__name__)

_RENEW_SECONDS = 2.0
"""Between two looks at the certificates; also what a connection with new ones is given to come about."""

_RENEWED_AT_ONCE = 32
"""Connections. Handshakes cost time, and with hundreds at once none of them would be ready in those seconds."""

_BETWEEN_QUESTIONS = 1.0
"""Seconds between two questions to an endpoint whose machine seems to be gone."""


class Connections:
    """Does what `Balancer` says. `changed` is called after each change that may concern calls that wait."""

    def __init__(
        self,
        balancer: Balancer[Endpoint],
        *,
        drain_seconds: float,
        rng: random.Random,
        changed: Callable[[], None],
        ejection_changed: Callable[[Endpoint], None],
    ) -> None:
        self.retiring: set[Endpoint] = set()
        self._balancer = balancer
        self._drain_seconds = drain_seconds
        self._rng = rng
        self._changed = changed
        self._ejection_changed = ejection_changed
        self._health_service: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = Watch(self._look_at_all)

    @property
    def all(self) -> list[Endpoint]:
        return [*self._balancer.endpoints, *self.retiring]

    def carry_out(self, changes: Changes[Endpoint]) -> None:
        """Open and let go, as the balancer decided."""
        for endpoint in changes.open:
            endpoint.watch_health(self._health_service, self._rng, self._watch.hurry)
            endpoint.look()
        for endpoint in changes.retire:
            self.retiring.add(endpoint)
            self.own(self._let_finish(endpoint))
        self._watch.hurry()

    def watch_health(self, service: str | None) -> None:
        """From now on ask every server about that service, or with None no server."""
        if service != self._health_service:
            self._health_service = service
            for endpoint in self._balancer.endpoints:
                endpoint.watch_health(service, self._rng, self._watch.hurry)

    def look_at(self, endpoint: Endpoint) -> bool:
        """Note the state of the endpoint's connection. Whether it changed."""
        changed = endpoint not in self.retiring and endpoint.look()
        if changed:
            self.carry_out(self._balancer.connectivity_changed(endpoint))
            if endpoint.machine_lost:
                self.doubt_machine(endpoint)
        return changed

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this until it ends, or until `close`."""
        # In a context of its own, not in that of the call that happens to begin it, with the deadline that it serves.
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def renew(self) -> None:
        """Look at the certificates again and again, and move to new connections when they change. Never returns."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            endpoints = self._balancer.endpoints
            for first in range(0, len(endpoints), _RENEWED_AT_ONCE):
                await asyncio.gather(*map(self._renew, endpoints[first : first + _RENEWED_AT_ONCE]))

    async def _renew(self, endpoint: Endpoint) -> None:
        for line in await endpoint.renew(_RENEW_SECONDS):
            self.own(self._let_end(line))

    async def close(self) -> None:
        """End every task, close every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watch.stop()
        await asyncio.gather(*(endpoint.close() for endpoint in self.all))
        self._watch.stop()  # a call that failed meanwhile, or a server's last word on its health, may have hurried it

    def _look_at_all(self) -> bool:
        changes = [self.look_at(endpoint) for endpoint in self._balancer.endpoints]
        for endpoint in self._balancer.tick():
            self._ejection_changed(endpoint)
        self._changed()
        return any(changes)

    def doubt_machine(self, endpoint: Endpoint) -> None:
        """The connection to `endpoint` was lost as if its machine were gone: ask the others there."""
        for suspect in self._balancer.machine_lost(endpoint):
            self.own(self._ask(suspect))

    async def _ask(self, suspect: Endpoint) -> None:
        """Find out whether the suspect answers; if it does not, ask again for as long as it has a connection."""
        while self._balancer.is_suspect(suspect) and not await suspect.answers():  # noqa: ASYNC110 - nothing to await
            await asyncio.sleep(_BETWEEN_QUESTIONS)
        self._balancer.answered(suspect)
        self._changed()

    async def _let_end(self, line: Line) -> None:
        """Close a line that is not used any more once its calls have had their time."""
        try:
            await asyncio.sleep(self._drain_seconds)
        finally:
            await line.channel.close()

    async def _let_finish(self, endpoint: Endpoint) -> None:
        """Close a retired endpoint once its calls have ended, or have had their time."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                await endpoint.load.wait_idle()
        except TimeoutError:
            endpoint.expelled = True
        await endpoint.close()
        self.retiring.discard(endpoint)
        self._changed()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the channel to %r failed", self._balancer.service, exc_info=error)
