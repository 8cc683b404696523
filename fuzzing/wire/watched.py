"""`python -m fuzzing.wire.watched SERVICE CENSUS` runs a service that, on SIGUSR1, writes what it holds to a file.

The service is the one that `shop serve` runs; nothing about it is changed, but for the handler of that signal.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import gc
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType


def main(service: str, census: str) -> None:
    """Run the service until it ends."""
    path = Path(census)
    libc = ctypes.CDLL(None)
    counted = 0

    def count(_number: int, _frame: FrameType | None) -> None:
        nonlocal counted
        counted += 1
        # The interpreter runs a handler between two steps of the main thread: the event loop is that of this thread.
        tasks = collections.Counter(_name(task) for task in asyncio.all_tasks(asyncio.get_running_loop()))
        gc.collect()
        if hasattr(libc, "malloc_trim"):  # glibc's: gives back to the system what is free, which would look like held
            libc.malloc_trim(0)
        answer = {"number": counted, "tasks": tasks, "blocks": sys.getallocatedblocks()}
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(answer))
        os.replace(unfinished, path)  # noqa: PTH105 - the atomic one

    signal.signal(signal.SIGUSR1, count)
    sys.argv = [service]
    runpy.run_module(f"shop_services.{service}", run_name="__main__", alter_sys=True)


def _name(task: asyncio.Task[object]) -> str:
    return getattr(task.get_coro(), "__qualname__", "task")


if __name__ == "__main__":
    main(*sys.argv[1:])
