"""Processes of the shop that a campaign starts, and breaks: the supervisor of `shop up` keeps them running."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from campaigns.faults import Kind
from shop_services.launch.program import Part, Program
from shop_services.launch.supervisor import Child


class Process:
    """A process that the supervisor keeps running."""

    def __init__(self, child: Child, weights: Mapping[Kind, float]) -> None:
        self.name = child.name
        self.weights = weights
        self._child = child

    async def suffer(self, kind: Kind, seconds: float) -> bool:
        """Be killed, or stand still for so many seconds; it may be killed meanwhile."""
        pid = self._child.pid
        if pid is None:
            return False
        if kind is Kind.KILL:
            self._child.signal(signal.SIGKILL)
            return True
        with suppress(ProcessLookupError):  # it has died, and the supervisor is about to hear of it
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        if self._child.pid == pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return True


def part_of(name: str, command: tuple[str, ...], environment: Mapping[str, str], directory: Path, *, port: int) -> Part:
    """What the supervisor starts as `name`, on `port` of the loopback, with its log in `directory`."""
    variables = {**environment, "SHOP_PORT": str(port)}
    program = Program(name, command, variables, directory / "logs" / f"{name}.log")
    return Part(name, f"127.0.0.1:{port}", program)
