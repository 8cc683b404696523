"""What a thread waits on until something has happened, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

LOOK_SECONDS = 0.2
"""How often the main thread, where Python hands out signals, looks for one while it waits. grpc's own does every 0.1 s.

A signal wakes a thread that sleeps, but not one that is about to: one that comes after Python's last look, or that the
system gives to another thread, would be found when the wait is over.
"""


def wait_heeding_signals(wait: Callable[[float | None], bool], timeout: float | None) -> bool:
    """What `wait` returns when it is given `timeout` seconds; in the main thread a signal is handled in between."""
    if threading.get_ident() != threading.main_thread().ident:
        return wait(timeout)
    end = None if timeout is None else monotonic() + timeout
    while end is None or (left := end - monotonic()) > LOOK_SECONDS:
        if wait(LOOK_SECONDS):
            return True
    return wait(left)


class Latch:
    """Set once, by one thread; waited for by any number. Each waiter sleeps on a lock of its own.

    Every call needs one, and a `threading.Event` takes some 3 µs more.
    """

    __slots__ = ("_waiters", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: list[threading.Lock] = []

    def set(self) -> None:
        """Let everybody go on. Once only."""
        self.is_set = True
        # Who is added to the list after this line will see that it is set: it looks again when it has added itself.
        while self._waiters:
            self._waiters.pop().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Return once it is set, or after `timeout` seconds; whether it is set."""
        if self.is_set:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        if self.is_set:
            return True

        def acquire(seconds: float | None) -> bool:
            return waiter.acquire(timeout=-1 if seconds is None else min(max(seconds, 0.0), threading.TIMEOUT_MAX))

        if wait_heeding_signals(acquire, timeout):
            return True
        with suppress(ValueError):  # it was set at this moment, and has taken the waiter
            self._waiters.remove(waiter)
        return self.is_set
