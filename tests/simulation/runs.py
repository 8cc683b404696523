"""What simulations of crashes have in common: runs that stop at gates, and one generator that disturbs them.

One thing runs at a time, from gate to gate, and the generator chooses which, so a seed repeats exactly. At a gate a run
may be killed, its answer may get lost, or it may sleep until long after others did its work.
"""

from __future__ import annotations

import asyncio
import shutil
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from shop_services.messaging.bus import BusUnavailable
from shop_services.storage import Database

_LOST = 0.05  # of the gates that are passed an answer gets lost


@dataclass(eq=False)
class Run:
    """Something that runs from gate to gate."""

    name: str
    task: asyncio.Task[Any] | None = field(default=None, init=False)
    _gate: asyncio.Future[None] | None = field(default=None, init=False)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def done(self) -> bool:
        return self.task is None or self.task.done()

    @property
    def result(self) -> Any:
        """What it returned. Raises what it raised."""
        assert self.task is not None
        return self.task.result()

    async def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start `work`, and return when it has stopped at a gate, or ended."""
        token = current.set(self)
        self.task = asyncio.create_task(work)
        current.reset(token)
        self.task.add_done_callback(lambda _: self._stopped.set())
        await self._stopped.wait()

    async def go_on(self, failure: Exception | None = None) -> None:
        """Let it run to the next gate, or fail where it stands."""
        assert self._gate is not None
        self._stopped.clear()
        if failure is None:
            self._gate.set_result(None)
        else:
            self._gate.set_exception(failure)
        await self._stopped.wait()

    async def kill(self) -> None:
        """End it where it stands, as the death of its process does."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    async def stop(self) -> None:
        """Wait to be told to go on, or what has happened; not in a part of it while another part waits."""
        if self._gate is None or self._gate.done():
            self._gate = asyncio.get_running_loop().create_future()
            self._stopped.set()
            await self._gate


current: ContextVar[Run | None] = ContextVar("run", default=None)
"""The run that the code belongs to."""


async def gate() -> None:
    """Where runs stop. What is no run passes freely."""
    run = current.get()
    if run is not None:
        await run.stop()


R = TypeVar("R", bound=Run)


class Simulation(ABC, Generic[R]):
    """Runs under way, and `log`: what happened, for people and to compare two runs of a seed."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.runs: list[R] = []
        self.log: list[str] = []

    @abstractmethod
    def ended(self, run: R, error: BaseException | None) -> None:
        """Look at how a run ended. Raises what must not be."""

    def say(self, *words: str) -> None:
        """Write down what happens."""
        self.log.append(" ".join(words))

    async def start(self, run: R, work: Coroutine[Any, Any, Any]) -> None:
        """Let a new run come to its first gate."""
        self.say("starts", run.name)
        self.runs.append(run)
        await run.start(work)
        self._reap(run)

    async def go_on(self, run: R, gates: int) -> None:
        """Let it pass so many gates, at any of which the answer that it waits for may get lost."""
        for _ in range(gates):
            failure = BusUnavailable("the answer is lost") if self.rng.random() < _LOST else None
            self.say("fails" if failure else "goes on", run.name)
            await run.go_on(failure)
            if run.done:
                self._reap(run)
                return

    async def kill_one(self) -> None:
        """Kill any of the runs."""
        run = self.runs.pop(self.rng.randrange(len(self.runs)))
        self.say("killed", run.name)
        await run.kill()

    async def finish(self, run: R) -> None:
        """Let it run to its end, undisturbed."""
        while not run.done:
            await run.go_on()
        self._reap(run)

    async def finish_all(self) -> None:
        """Let all runs come to their end, one after the other."""
        while self.runs:
            await self.finish(self.runs[0])

    def _reap(self, run: R) -> None:
        if run.task is None or not run.task.done():
            return
        if run in self.runs:
            self.runs.remove(run)
        error = run.task.exception()
        self.say("done" if error is None else f"ended by {error!r}", run.name)
        self.ended(run, error)


class PassingDatabase(Database):
    """A database in a file, of which nothing has to survive this machine."""

    def __init__(self, path: Path, service: str, *, pool: int) -> None:
        super().__init__(f"sqlite:///{path}", service=service, pool=pool)

        @sa.event.listens_for(self.engine.sync_engine, "connect")
        def hurry(connection: DBAPIConnection, _record: object) -> None:
            connection.cursor().execute("PRAGMA synchronous = OFF")


_numbers = count()


def story(prepared: Path, simulate: Callable[[Path, list[str]], Awaitable[None]]) -> list[str]:
    """Simulate on a copy of a database, and return what happened, which is printed if the simulation fails.

    `simulate` gets the path of the copy, and the list to write to.
    """
    path = prepared.with_name(f"{next(_numbers)}.db")
    shutil.copy(prepared, path)
    log: list[str] = []

    async def run() -> None:
        await simulate(path, log)

    try:
        asyncio.run(run())
    except BaseException:
        print("\n".join(log))  # noqa: T201 - the story of the failure
        raise
    finally:
        path.unlink()
    return log
