"""A program to keep running, and one run of it as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from shop_services.launch.logs import open_log

REFUSED = 2
"""The exit status of a program that cannot run with the settings it was given: starting it again would not help."""

_TETHER = Path(__file__).with_name("tether.py")


class Stage(IntEnum):
    """When a program is drained: after those of the stages before, which call it."""

    WORKERS = 0
    SERVICES = 1
    SERVERS = 2
    """etcd, NATS and the like."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: an absolute path with arguments, and its whole environment.

    Its output goes to the file `log`, or where the parent's goes if that is None. Programs of a lower `stage` are
    drained before those of a higher one, which they need. `drawn_ports` are those that were drawn for it, and that
    another draw may replace.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(hash=False)
    log: Path | None = None
    stage: int = Stage.SERVICES
    drawn_ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One instance of a service, a worker, or a server: the program that runs it, and the address that others dial.

    `service` is what it is called in the registry, if it registers.
    """

    service: str
    address: str
    program: Program


async def spawn(program: Program) -> Process:
    """Start `program` in a session of its own, so that a Ctrl-C in the terminal reaches the parent alone.

    It dies with the thread that calls this (Linux), which must therefore be the main one.

    Raises:
        OSError: it could not be started.
    """
    log = open_log(program.log) if program.log else None
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *program.command),
            env=dict(program.environment),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        if log is not None:
            os.close(log)


def how_it_ended(code: int) -> str:
    """A process's exit code in words: "exited with 1", "was killed by SIGKILL"."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was killed by signal {-code}"
