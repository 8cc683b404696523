"""A crowd of HTTP clients in a process of its own, which asks at a given rate whatever becomes of it (an open loop).

Requests are due at random moments, as those of many people are. Each is sent over a connection on which nothing else is
awaited; if there is none, a new one is opened, as long as there are fewer than `CONNECTIONS`. A request for which there
is no connection, or that has no answer within `PATIENCE`, has failed. What a request took is counted from when it was
due, so that a crowd which is late itself makes the gateway look no faster. Where it is late since its process did not
run, as on a machine that is busy with something else, it says so: what was due meanwhile is all asked for at once then.

It is given its plan as JSON in its only argument, and prints what it found as JSON, see `Plan` and `Found`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from time import process_time
from typing import Any

import uvloop

CONNECTIONS = 3800
PATIENCE = 5.0
SLICE = 0.5
"""Seconds: what is found is told in slices of this length."""

_TICK = 0.002
_STANDSTILL = 0.25
"""Seconds for which the process did not run, though it had to: fewer are what an open loop can stand."""
_BEFORE, _AFTER = 0.5, 1.0
"""Seconds before and after a standstill in which requests suffer from it: those under way, and the rush after it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Ask for `paths` at `port` of the loopback, for each of `phases` at a rate (a second) for a time (in seconds)."""

    port: int
    paths: Sequence[str]
    phases: Sequence[tuple[float, float]]
    seed: int


@dataclass(slots=True)
class Slice:
    """What became of the requests that were due in one slice of a phase."""

    asked: int = 0
    refused: int = 0
    failed: int = 0
    took: list[float] = field(default_factory=list)
    """Seconds that each request took that was answered with 2xx."""
    disturbed: bool = False
    """Whether the crowd stood still then, or right before or after."""


Found = list[list[Slice]]
"""The slices of each phase."""


def found_of(text: str) -> Found:
    """What a generator has printed."""
    return [[Slice(**one) for one in phase] for phase in json.loads(text)]


def is_disturbed(began: float, standstills: Sequence[tuple[float, float]]) -> bool:
    """Whether the crowd stood still in a slice that began then, or right before or after."""
    return any(began < end + _AFTER and began + SLICE > begin - _BEFORE for begin, end in standstills)


class _Client(asyncio.Protocol):
    """One connection. At most one request is awaited on it."""

    def __init__(self, crowd: _Crowd) -> None:
        self.due = 0.0
        self.slice: Slice | None = None
        self._crowd = crowd
        self._transport: Any = None
        self._request = b""
        self._received = b""

    def ask(self, request: bytes, due: float, slice_: Slice) -> None:
        self.due, self.slice = due, slice_
        self._crowd.awaited[self] = None
        if self._transport is None:
            self._request = request  # sent as soon as it is connected
        else:
            self._transport.write(request)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self.slice is None:
            transport.abort()
        else:
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + _length(data, end):
            self._received = data
            return
        self._received = b""
        self._over(data[9:12])

    def connection_lost(self, error: Exception | None) -> None:
        self._over(b"")
        self._crowd.gone(self)

    def give_up(self) -> None:
        """The request has had no answer in time."""
        self._over(b"")
        if self._transport is not None:
            self._transport.abort()

    def _over(self, status: bytes) -> None:
        slice_ = self.slice
        if slice_ is None:
            return
        self.slice = None
        self._crowd.awaited.pop(self, None)
        if status[:1] == b"2":
            slice_.took.append(self._crowd.time() - self.due)
        elif status in (b"503", b"429"):
            slice_.refused += 1
        else:
            slice_.failed += 1
        if status:
            self._crowd.free.append(self)


def _length(data: bytes, end: int) -> int:
    head = data[:end].lower()
    at = head.find(b"content-length: ") + 16
    return int(head[at : at + 12].partition(b"\r")[0])


class _Crowd:
    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        self.time: Callable[[], float] = loop.time
        self.free: deque[_Client] = deque()
        self.awaited: dict[_Client, None] = {}  # in the order in which they were asked
        self._clients: set[_Client] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = loop
        self._plan = plan
        self._rng = Random(plan.seed)
        self._begun: list[tuple[float, Slice]] = []
        self._standstills: list[tuple[float, float]] = []
        self._looked, self._worked = loop.time(), process_time()
        self._requests = [f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode() for path in plan.paths]

    async def act(self) -> Found:
        found = [await self._phase(rate, seconds) for rate, seconds in self._plan.phases]
        while self.awaited:
            self._give_up()
            await asyncio.sleep(_TICK)
        for client in tuple(self._clients):
            client.give_up()
        for began, slice_ in self._begun:
            slice_.disturbed = is_disturbed(began, self._standstills)
        return found

    async def _phase(self, rate: float, seconds: float) -> list[Slice]:
        slices = [Slice() for _ in range(round(seconds / SLICE))]
        began = self.time()
        self._begun += [(began + number * SLICE, slice_) for number, slice_ in enumerate(slices)]
        due = began + self._rng.expovariate(rate)
        while due < began + len(slices) * SLICE:
            now = self.time()
            while due <= now and (number := int((due - began) / SLICE)) < len(slices):
                self._ask(due, slices[number])
                due += self._rng.expovariate(rate)
            self._give_up()
            await self._sleep(max(_TICK, due - self.time()))
        return slices

    async def _sleep(self, seconds: float) -> None:
        """Sleep, and note if this process neither slept nor worked for a part of the time since the last look."""
        await asyncio.sleep(seconds)
        now, worked = self.time(), process_time()
        if now - self._looked - seconds - (worked - self._worked) > _STANDSTILL:
            self._standstills.append((self._looked, now))
        self._looked, self._worked = now, worked

    def _ask(self, due: float, slice_: Slice) -> None:
        slice_.asked += 1
        request = self._rng.choice(self._requests)
        if self.free:
            self.free.pop().ask(request, due, slice_)
        elif len(self._clients) < CONNECTIONS:
            client = _Client(self)
            self._clients.add(client)
            client.ask(request, due, slice_)
            connecting = self._loop.create_task(self._connect(client))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)
        else:
            slice_.failed += 1

    async def _connect(self, client: _Client) -> None:
        try:
            await self._loop.create_connection(lambda: client, "127.0.0.1", self._plan.port)
        except OSError:
            client.give_up()
            self.gone(client)

    def gone(self, client: _Client) -> None:
        self._clients.discard(client)
        if client in self.free:
            self.free.remove(client)

    def _give_up(self) -> None:
        late = self.time() - PATIENCE
        while self.awaited and (client := next(iter(self.awaited))).due < late:
            client.give_up()


def main() -> None:
    """Carry out the plan in the argument, and print what was found."""
    given = json.loads(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each connection is a file
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_Crowd(Plan(**given), runner.get_loop()).act())
    json.dump([[asdict(one) for one in phase] for phase in found], sys.stdout)


if __name__ == "__main__":
    main()
