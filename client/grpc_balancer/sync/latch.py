"""What a thread waits on until something has happened, once."""

from __future__ import annotations

import threading


class Latch:
    """Set once, by one thread; waited for by any number. Each waiter sleeps on a lock of its own.

    It costs a third of a `threading.Event`, of which every call would need one.
    """

    __slots__ = ("_waiters", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: list[threading.Lock] = []

    def set(self) -> None:
        """Let everybody go on. Once only."""
        self.is_set = True
        # Who is added to the list after this line has seen `is_set`, or will: it looks again after adding itself.
        for waiter in self._waiters:
            waiter.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Return once it is set, or after `timeout` seconds; whether it is set."""
        if self.is_set:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        if self.is_set:
            return True
        return waiter.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
