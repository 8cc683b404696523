"""The thread in which the channels of a process live: it runs an event loop while there is any.

It starts with the first channel that is used, not with the first that is made, so that a process may fork in between.
After that it may not: of all threads only the forking one exists in the child, and grpc.aio, which waits for a thread
of its own, hangs there (with grpcio 1.85; or crashes, unless GRPC_ENABLE_FORK_SUPPORT is 0). Once the last channel is
closed the thread has ended and grpc.aio is shut down, and a fork is harmless again.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar

from grpc_balancer.sync.callbacks import CallbackThread
from grpc_balancer.sync.latch import Latch
from grpc_balancer.sync.registries import Registries

T = TypeVar("T")

START_SECONDS = 30.0
"""How long the loop may take for what needs no network, before it is given up as stuck."""

_END_SECONDS = 5.0

_ENDED = "the event loop of grpc_balancer.sync has ended"

_FORKED = (
    "process {pid} was forked from {parent} while that had a grpc_balancer.sync channel in use, and gRPC does not "
    "survive a fork. Start processes with multiprocessing's 'spawn', or use channels first in the child (Celery: "
    "worker_process_init, gunicorn: post_fork), or close them before the fork"
)


class Tenant(Protocol):
    """Who lives in the loop: it is shut at the latest when the interpreter exits."""

    async def shut(self, grace: float | None) -> None: ...

    def end_calls(self) -> None: ...


class LoopThread:
    """One event loop in a daemon thread."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.callbacks = CallbackThread()
        self.tenants: set[Tenant] = set()
        self.registries = Registries()
        self.loop: asyncio.AbstractEventLoop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop: asyncio.Event
        self._running = Latch()
        # Daemon: a program that does not close its channels must be able to exit.
        self._thread = threading.Thread(target=self._run, name="grpc_balancer loop", daemon=True)
        self._thread.start()
        if not self._running.wait(START_SECONDS):
            raise TimeoutError(f"the event loop did not start within {START_SECONDS:g} s")

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._main())
        finally:
            for tenant in list(self.tenants):  # there is none, unless something called in the loop raised SystemExit
                tenant.end_calls()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._running.set()
        await self._stop.wait()

    def is_of_this_process(self) -> bool:
        """False in a process that was forked from the one that has the thread."""
        return self.pid == os.getpid()

    def check_usable(self) -> None:
        """Raise `RuntimeError` in a forked process, which lacks this thread, and in the thread, which must not wait."""
        if not self.is_of_this_process():
            raise RuntimeError(_FORKED.format(pid=os.getpid(), parent=self.pid))
        if self._is_present():
            raise RuntimeError("a blocking call in the event loop of grpc_balancer.sync would wait for itself")

    def _is_present(self) -> bool:
        # Not by `ident`, which the next thread gets once this one has ended.
        return threading.current_thread() is self._thread

    def post(self, work: Callable[..., object], *arguments: Any, context: Context | None = None) -> bool:
        """Call `work` soon in the loop, in `context` or else a copy of the present one. Whether that is possible."""
        if not self.is_of_this_process():
            return False  # it would wake the parent's, with which we share what wakes it
        try:
            self.loop.call_soon_threadsafe(work, *arguments, context=context)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task, from inside of the loop, and hold it until it ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self, work: Callable[[], Awaitable[T]], timeout: float = START_SECONDS) -> T:
        """Await `work()` in the loop, and block until it is done.

        It gets a context of its own: what it starts outlives the request that happened to be the first.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            RuntimeError: this is the loop's thread.
        """
        self.check_usable()
        done = Latch()
        ended: list[asyncio.Task[T]] = []

        async def working() -> T:
            return await work()

        def finish(task: asyncio.Task[T]) -> None:
            ended.append(task)
            done.set()

        if not self.post(lambda: self.own(working()).add_done_callback(finish), context=Context()):
            raise RuntimeError(_ENDED)
        if not done.wait(timeout):
            raise TimeoutError(f"the event loop of grpc_balancer.sync did not answer within {timeout:g} s")
        if ended[0].cancelled():
            raise RuntimeError(_ENDED)
        return ended[0].result()

    def end(self) -> None:
        """Stop the loop, and wait for its thread a few seconds, if this is another one."""
        self.post(self._stop.set)
        self.callbacks.end()
        if not self._is_present():
            self._thread.join(_END_SECONDS)

    def end_with_interpreter(self) -> None:
        """Shut everything that is still open, then end."""
        with contextlib.suppress(TimeoutError, RuntimeError):
            self.run(self._shut_all, timeout=_END_SECONDS)
        self.end()

    async def _shut_all(self) -> None:
        await asyncio.gather(*(tenant.shut(None) for tenant in list(self.tenants)), return_exceptions=True)


_lock = threading.Lock()
_current: LoopThread | None = None
_users = 0
_used = False
_lost: LoopThread | None = None
"""In a forked child: the parent's, whose thread does not exist here. Kept, since collecting it would close what the
parent still uses (its epoll set is one for both)."""


def acquire() -> LoopThread:
    """The process's loop thread, started if there is none; `release` it.

    Raises:
        RuntimeError: the process is a fork of one in which it was running.
    """
    global _current, _users, _used
    if _lost is not None:
        _lost.check_usable()
    with _lock:
        if _current is None:
            _current = LoopThread()
        _users += 1
        _used = True
        return _current


def release(thread: LoopThread) -> None:
    """The thread ends with its last user."""
    global _current, _users
    with _lock:
        _users -= 1
        last = _users == 0
        if last:
            _current = None
    if last:
        thread.end()


def in_loop(function: Callable[..., T], *arguments: Any) -> T:
    """Call `function` in the thread of the channels, and return what it returns.

    For what lives there and is not thread-safe, like the `testing.ManualResolver` of a channel.

    Raises:
        RuntimeError: no channel is in use, or this is that thread.
    """
    thread = _current or _lost
    if thread is None:
        raise RuntimeError("no grpc_balancer.sync channel is in use")

    async def call() -> T:
        return function(*arguments)

    return thread.run(call)


def _end_with_interpreter() -> None:
    thread = _current
    if thread is not None and thread.is_of_this_process():
        thread.end_with_interpreter()


def _let_grpc_end() -> None:
    """Before a fork: grpc.aio's own thread ends with the last of its channels; closed ones may wait to be collected."""
    global _used
    if _used and _current is None:
        gc.collect()
        _used = False


def _forget_in_child() -> None:
    global _lock, _current, _users, _lost
    _lock = threading.Lock()  # some thread of the parent may have held it
    _lost = _current or _lost
    _current, _users = None, 0


atexit.register(_end_with_interpreter)
os.register_at_fork(before=_let_grpc_end, after_in_child=_forget_in_child)
