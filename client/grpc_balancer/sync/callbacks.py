"""A thread for the callbacks of users, who may block in them: neither the loop nor the caller's thread may."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_log = logging.getLogger(__name__)


class CallbackThread:
    """Runs what it is given, in order. Its thread starts with the first and ends with `end`."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Run `callback` soon; what it raises is logged."""
        self._queue.put((callback, arguments))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="grpc_balancer callbacks", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """End after what was put so far. Does not wait."""
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            callback, arguments = item
            try:
                callback(*arguments)
            except Exception:
                _log.exception("the callback %r failed", callback)
            del callback, arguments, item  # the last reference to an abandoned call may be here
