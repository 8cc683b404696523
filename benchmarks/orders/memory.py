"""How much memory processes take while something goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

_EVERY = 0.5
_PROC = Path("/proc")


class Memory:
    """MiB of each process by name: when it was first looked at, and the most that was seen."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes
        self.before = {name: resident(pid) for name, pid in processes.items()}
        self.most = dict(self.before)

    def look(self) -> None:
        for name, pid in self._processes.items():
            self.most[name] = max(self.most[name], resident(pid))

    def growth(self, name: str) -> float:
        return self.most[name] - self.before[name]


@contextlib.asynccontextmanager
async def watched(processes: Mapping[str, int]) -> AsyncIterator[Memory]:
    """Look twice a second at the processes, given by their ids, inside of the block."""
    memory = Memory(processes)

    async def looking() -> None:
        while True:
            memory.look()
            await asyncio.sleep(_EVERY)

    task = asyncio.create_task(looking())
    try:
        yield memory
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def resident(pid: int) -> float:
    """MiB in memory that are the process' own and its children's: neither files nor what processes share.

    Raises:
        FileNotFoundError: there is no such process.
    """
    status = (_PROC / str(pid) / "status").read_text()
    own = next((line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")), "0")
    total = int(own) / 1024
    for child in (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end meanwhile
            total += resident(int(child))
    return total
