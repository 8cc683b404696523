"""Keeps programs running: starts them, starts them again when they die, and drains them in the end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from shop_services.launch.logs import size, tail, trim
from shop_services.launch.ports import is_free
from shop_services.launch.program import REFUSED, Program, how_it_ended, spawn

Report = Callable[[str], None]
"""Told, in a line for a person, what happened to a program; the lines after it are the program's own last ones."""

_LAST_LINES = 3

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds before a program is started again: doubled after each run that was short."""

RAN_WELL = 30.0
"""Seconds after which a run counts as good, so that the next pause is the first one again."""


class Backoff:
    """The pause before each new start: 0.2 s, 0.4 s … 10 s; 0.2 s again after a run of 30 s."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, run_seconds: float) -> float:
        """The pause in seconds after a run that took so long."""
        pause = FIRST_PAUSE if run_seconds >= RAN_WELL else self._next
        self._next = min(pause * 2, LONGEST_PAUSE)
        return pause


class Child:
    """A program that is kept running. Made and owned by a `Supervisor`."""

    def __init__(self, program: Program, report: Report, died: Callable[[], None]) -> None:
        self.program = program
        self.starts = 0
        self.refused = False
        self.displaced = False
        """Somebody else took a port that had been drawn for it, before it could."""
        self._report = report
        self._died = died
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def pid(self) -> int | None:
        """The process id while it runs; None between two runs and after the last."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def run(self) -> None:
        """Keep the program running until `end` is called, or until it refuses its settings."""
        backoff = Backoff()
        while not self._stopping.is_set():
            began, log_size = time.monotonic(), size(self.program.log) if self.program.log else 0
            try:
                pid, code = await self._run_once()
                ended = f"(pid {pid}) {how_it_ended(code)}"
            except OSError as error:
                code, ended = 0, f"could not be started ({error.strerror})"
            if self._stopping.is_set():
                return
            self._died()
            last_words = self._last_words(log_size) if code > 0 else ""
            if self.starts == 1 and code > 0:
                # What ran with the same settings before cannot blame them now, and may run again.
                self.displaced = not all(is_free(port) for port in self.program.drawn_ports)
                self.refused = code == REFUSED and not self.displaced
            if self.displaced:
                self._report(f"{self.name} {ended}: somebody else has taken its port{last_words}")
                return
            if self.refused:
                self._report(f"{self.name} {ended}: it refuses its settings, and is not started again{last_words}")
                return
            pause = backoff.after(time.monotonic() - began)
            self._report(f"{self.name} {ended}; it is started again in {pause:.1f} s{last_words}")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    def end(self) -> None:
        """Ask the program to drain and end (SIGTERM), and start it no more."""
        self._stopping.set()
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the program and all it started in its session at once (SIGKILL), and start it no more."""
        self._stopping.set()
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # its group has its own id, since it leads a session

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, if it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _run_once(self) -> tuple[int, int]:
        """Run the program to its end. Returns its pid and exit code; raises `OSError` if it cannot be started."""
        self._process = process = await spawn(self.program)
        self.starts += 1
        if self._stopping.is_set():  # told while it was starting
            self.signal(signal.SIGTERM)
        return process.pid, await process.wait()

    def _last_words(self, log_size: int) -> str:
        """What the program wrote last, if it went to a log, which had so many bytes before."""
        words = tail(self.program.log, _LAST_LINES, after=log_size) if self.program.log else ""
        return "".join(f"\n    {line}" for line in words.splitlines())

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} starts={self.starts}>"


class Supervisor:
    """Keeps a set of programs running, as an async context manager that leaves none of them behind.

    Made in a running event loop, in the main thread, since a program lives no longer than the thread that starts it.
    `report` is told what happens to programs, but not what the supervisor was asked to do with them. Every
    `trim_interval` seconds it looks whether a log has grown too long.
    """

    def __init__(self, report: Report, *, trim_interval: float = 5.0) -> None:
        self._report = report
        self._trim_interval = trim_interval
        self._tasks: dict[Child, asyncio.Task[None]] = {}
        self._refusal: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._trimming = asyncio.create_task(self._trim_logs(), name="trim logs")

    @property
    def children(self) -> tuple[Child, ...]:
        """All that were started, in that order."""
        return tuple(self._tasks)

    def start(self, program: Program, died: Callable[[], None] = lambda: None) -> Child:
        """Begin to keep `program` running; returns at once. `died` is called after each end that nobody asked for."""
        child = Child(program, self._report, died)
        task = self._tasks[child] = asyncio.create_task(child.run(), name=f"run {program.name}")
        task.add_done_callback(partial(self._ended, child))
        return child

    async def refusal(self) -> Child:
        """Return the first child that refused its settings, or was displaced from its port, once there is one.

        Raises whatever unexpectedly ended the supervision of a child.
        """
        return await asyncio.shield(self._refusal)

    async def drain(self, children: Iterable[Child], seconds: float) -> list[Child]:
        """End `children` all at once; kill those that take longer than `seconds`, report and return them."""
        tasks = {child: self._tasks[child] for child in children}
        for child in tasks:
            child.end()
        late: list[Child] = []
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds)
            late = [child for child, task in tasks.items() if not task.done()]
        for child in late:
            self._report(f"{child.name} (pid {child.pid}) did not end within {seconds:.0f} s and is killed")
        await self._kill(late)
        return late

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trimming.cancel()
        await self._kill(self._tasks)
        if self._refusal.done():
            self._refusal.exception()  # looked at, or asyncio would complain that nobody did

    def _ended(self, child: Child, task: asyncio.Task[None]) -> None:
        if self._refusal.done() or task.cancelled():
            return
        if error := task.exception():
            self._refusal.set_exception(error)
        elif child.refused or child.displaced:
            self._refusal.set_result(child)

    async def _kill(self, children: Iterable[Child]) -> None:
        tasks = [self._tasks[child] for child in children]
        for child in children:
            child.kill()
        while pending := [task for task in tasks if not task.done()]:
            # Once more after a moment: a child that was being started had no process yet.
            await asyncio.wait(pending, timeout=0.1)
            for child in children:
                child.kill()

    async def _trim_logs(self) -> None:
        while True:
            for child in self._tasks:
                if child.program.log is not None:
                    with suppress(OSError):  # a full disk, say: there may be room later
                        trim(child.program.log)
            await asyncio.sleep(self._trim_interval)
