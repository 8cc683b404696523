"""A service in a process of its own that is watched: its files, memory, tasks, time and log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway.load import processor_seconds
from tests.servers import ServerProcess

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CENSUS_SECONDS = 60.0

# What a defect leaves in the log: ours, asyncio's, the interpreter's (faulthandler) and gRPC's.
_DEFECTS = re.compile(
    rb"unhandled_exception|Traceback|never retrieved|Exception in|was destroyed but it is pending|Fatal Python error"
    rb"|Unexpected \[|ASSERTION|\"level\": ?\"(?:error|critical)\""
)


@dataclass(frozen=True, slots=True)
class Census:
    """What a process holds: open files by kind, bytes of memory, blocks of Python's memory, and its tasks by name.

    The files of a database are left out: they are as many as its pool has connections.
    """

    files: Mapping[str, int]
    memory: int
    blocks: int
    tasks: Mapping[str, int]

    def more_than(self, before: Census) -> str:
        """What it has more of than before, files and tasks, as text; empty if nothing."""
        kinds = (("files", self.files, before.files), ("tasks", self.tasks, before.tasks))
        return ", ".join(
            f"{count - then.get(name, 0)} {what} {name}"
            for what, now, then in kinds
            for name, count in sorted(now.items())
            if count > then.get(name, 0)
        )


def _kind(file: Path) -> str:
    """`socket`, `pipe` and the like; the path of a file on a disk."""
    try:
        return os.readlink(file).partition(":")[0]  # noqa: PTH115 - it is no path, for the most part
    except OSError:
        return "/"  # closed meanwhile


class WatchedServer(ServerProcess):
    """`shop_services.SERVICE` with the variables `environment`, in a directory of its own."""

    start_seconds = 120.0

    def __init__(self, service: str, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__(directory)
        self._service = service
        self._environment = environment
        self._census = directory / "census.json"
        self._counted = 0
        self._port = 0

    def command(self) -> Sequence[str]:
        variables = {**self._environment, "PYTHONFAULTHANDLER": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        pairs = [f"{name}={value}" for name, value in variables.items()]
        module = ["-m", "fuzzing.wire.watched", self._service, str(self._census)]
        return ["/usr/bin/env", *pairs, sys.executable, *module]

    def ready(self) -> bool:
        whole = self.log.read_text().rpartition("\n")[0]  # it may be writing the line after these
        lines = [json.loads(line) for line in whole.splitlines() if '"listening"' in line]
        if lines:
            self._port = int(lines[-1]["address"].rpartition(":")[2])
        return bool(lines)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    async def census(self) -> Census:
        """What it holds now. Raises `TimeoutError` if it does not say."""
        self._counted += 1
        os.kill(self.pid, signal.SIGUSR1)
        async with asyncio.timeout(_CENSUS_SECONDS):
            while (told := self._told())["number"] < self._counted:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        process = Path(f"/proc/{self.pid}")
        memory = int((process / "statm").read_text().split()[1]) * _PAGE
        files = Counter(kind for file in (process / "fd").iterdir() if not (kind := _kind(file)).startswith("/"))
        return Census(files, memory, told["blocks"], told["tasks"])

    def _told(self) -> dict[str, Any]:
        return dict(json.loads(self._census.read_text())) if self._census.exists() else {"number": 0}

    def cpu(self) -> float:
        """Seconds of the CPU that it has taken so far."""
        return processor_seconds(str(self.pid))

    def defects(self) -> list[str]:
        """The lines of its log that no input may cause. The log is empty then: a line for each call fills a disk."""
        lines = self.log.read_bytes().splitlines()
        os.truncate(self.log, 0)
        return [line.decode(errors="replace") for line in lines if _DEFECTS.search(line)]
