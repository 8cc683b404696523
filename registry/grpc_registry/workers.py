"""One Python process is one core: a server that needs more of them is several processes, each an instance of its own.

    async def main(worker: int) -> None:
        ...  # bind a port, connect, serve: a server's whole life, as without workers

    if __name__ == "__main__":
        sys.exit(workers.run(main, 4))

A worker is spawned, never forked: gRPC's threads do not survive a fork. It binds a port of its own and registers
itself, under the `host` that all share. Were the port shared as well (SO_REUSEPORT), the kernel would spread
connections, unevenly, and clients could neither count the calls of a worker nor leave alone the one that fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from random import Random
from typing import Any

from grpc_registry.backoff import Backoff
from grpc_registry.errors import ServerEnded
from grpc_registry.waiting import first_of

logger = logging.getLogger(__name__)

Main = Callable[[int], Coroutine[Any, Any, object]]
"""What a worker runs, told which it is, from 0. It must be picklable: a function of a module, or a `partial` of one."""

KILLED = 130
"""The exit code after a second signal, as shells have it."""

_LOST_SERVER = 75
"""The exit code of a worker that let `ServerEnded` out; EX_TEMPFAIL, as sysexits has it: start it again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_RAN_WELL = 30.0
"""Seconds after which a run counts as good: the pauses begin anew, and a failure is none of the start."""


def run(main: Main, number: int, *, drain_seconds: float = 30.0) -> int:
    """Run `main(0)` to `main(number - 1)`, each in a process of its own, until SIGTERM or SIGINT.

    A worker that dies is started again, after 0.2 s at first and 10 s at most. One that returns has done its work, and
    `run` returns when all have. One that fails (by an exception, say, but for `ServerEnded`) within 30 s of its very
    first start would fail again: then the others drain.

    The first signal is passed on to all workers as SIGTERM, on which `grpc_registry.serving` drains; a second one kills
    them. If this process dies, its workers drain.

    Call it in the main thread, under `if __name__ == "__main__":`, since every worker imports the script anew.

    Args:
        drain_seconds: how long workers may take to end before they are killed. The default of 30 is what Kubernetes
            gives a pod; `serving` needs less than 20 with its own defaults.

    Returns:
        The exit code: 0 if all workers ended well, 1 if one failed or had to be killed, 130 after a second signal.

    Raises:
        ValueError: `number` is less than 1.
    """
    if number < 1:
        raise ValueError(f"number of workers: at least 1, not {number}")
    resource_tracker.ensure_running()  # the first start would do it, and unblock SIGINT on the way
    return asyncio.run(_supervise([_Worker(main, index, drain_seconds) for index in range(number)], drain_seconds))


class _FailedStart(Exception):
    """A worker failed as soon as it was started for the first time."""


class _Worker:
    """A process that is started again when it dies."""

    def __init__(self, main: Main, index: int, drain_seconds: float) -> None:
        self._arguments = (main, index, drain_seconds)
        self._name = f"worker {index}"
        self._process: SpawnProcess | None = None

    async def keep(self, asked: asyncio.Event) -> bool:
        """Keep it running until it returns, or ends when it was `asked` to; returns whether it did so well.

        Raises:
            _FailedStart: it failed at its first start.
        """
        backoff = Backoff(Random(), first=_FIRST_PAUSE, cap=_LONGEST_PAUSE)
        starts = 0
        while not asked.is_set():
            starts, began = starts + 1, time.monotonic()
            code, ended = await self._run_once()
            if code == 0 or asked.is_set():
                return code in (0, -signal.SIGTERM)  # one that was still importing just ends
            if time.monotonic() - began >= _RAN_WELL:
                backoff.reset()
            elif starts == 1 and code > 0 and code != _LOST_SERVER:  # which one call may have done
                raise _FailedStart(f"{ended} as soon as it was started")
            pause = backoff.next()
            logger.warning("%s; it is started again in %.1f s", ended, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await asked.wait()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _run_once(self) -> tuple[int, str]:
        """Start the process and wait for its end; returns its exit code, and what happened in words."""
        process = multiprocessing.get_context("spawn").Process(target=_work, args=self._arguments, name=self._name)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, until the worker can cope
        try:
            process.start()
        except OSError as error:  # no memory, no process id: there may be later
            return -1, f"{self._name} could not be started ({error})"
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._process = process
        await _end_of(process)
        process.join()
        self._process = None
        code = process.exitcode or 0
        how = f"exited with {code}" if code >= 0 else f"was ended by signal {-code} ({signal.strsignal(-code)})"
        return code, f"{self._name} (pid {process.pid}) {how}"


async def _supervise(workers: list[_Worker], drain_seconds: float) -> int:
    asked, insisted = asyncio.Event(), asyncio.Event()
    with _signals(lambda: (insisted if asked.is_set() else asked).set()):
        tasks = [asyncio.create_task(worker.keep(asked)) for worker in workers]
        try:
            await first_of(_set(asked), _all_ended_or_one_failed(tasks))
            asked.set()
            for worker in workers:
                worker.signal(signal.SIGTERM)
            await first_of(_set(insisted), _all_ended(tasks), asyncio.sleep(drain_seconds))
        finally:
            asked.set()
            for worker in workers:
                worker.signal(signal.SIGKILL)
            results = await asyncio.gather(*tasks, return_exceptions=True)
    for error in results:
        if isinstance(error, _FailedStart):
            logger.error("%s", error)
        elif isinstance(error, BaseException):
            raise error
    if insisted.is_set():
        return KILLED
    return 0 if all(result is True for result in results) else 1


@contextlib.contextmanager
def _signals(told: Callable[[], None]) -> Generator[None, None, None]:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.getsignal(number))
            stack.callback(loop.remove_signal_handler, number)
            loop.add_signal_handler(number, told)
        yield


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _all_ended_or_one_failed(tasks: Iterable[asyncio.Task[bool]]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)


async def _all_ended(tasks: Iterable[asyncio.Task[bool]]) -> None:
    await asyncio.wait(tasks)


async def _end_of(process: SpawnProcess) -> None:
    """Return when it has ended. Its sentinel would stay open as long as anything lives that it forked."""
    descriptor = None
    if sys.platform == "linux" and process.pid is not None:
        with contextlib.suppress(OSError):  # a kernel before 5.3
            descriptor = os.pidfd_open(process.pid)
    if descriptor is None:
        await _readable(process.sentinel)
        return
    try:
        await _readable(descriptor)
    finally:
        os.close(descriptor)


async def _readable(descriptor: int) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


# In the worker


def _work(main: Main, index: int, drain_seconds: float) -> None:
    os.setsid()  # a Ctrl-C in the terminal reaches the parent alone, which passes it on once, as SIGTERM
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets one that came while this process was importing
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, args=(drain_seconds,), name="end with parent", daemon=True).start()
    try:
        asyncio.run(main(index))
    except ServerEnded as error:
        logger.error("%s", error)
        sys.exit(_LOST_SERVER)


def _end_with_parent(drain_seconds: float) -> None:
    """Drain this process when its parent has died, however that came; it has the usual time for it."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - this is a child
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
