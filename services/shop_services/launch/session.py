"""From the first start to the last drain: programs run until a signal, a refusal or the end of the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import groupby

from shop_services.launch.errors import LaunchError
from shop_services.launch.interrupts import first, interrupts
from shop_services.launch.program import REFUSED
from shop_services.launch.supervisor import Child, Supervisor
from shop_services.runtime.settings import Settings

Say = Callable[[str], None]
"""Prints a line."""

_MARGIN = 10.0  # seconds: a registry that hangs is waited for twice in a drain, for 2 and for 5

KILLED = 130
"""The exit code after a second Ctrl-C, as shells have it."""
DISPLACED = 75
"""The exit code after somebody else took a port that was drawn for a program: with others it may work (EX_TEMPFAIL)."""
_DRAWS = 3


async def run_session(
    work: Callable[[Supervisor], Awaitable[int]],
    *,
    drain_seconds: float,
    say: Say,
    complain: Say,
    interrupted: int = 0,
) -> int:
    """Run `work`, which starts programs, until it ends or is interrupted; then drain what it started.

    Returns the exit code: what `work` returned; `interrupted` if a signal asked it to end; 1 if it raised a
    `LaunchError` or a program had to be killed; 2 if a program refused its settings; 75 if it was displaced from its
    port; 130 if a second signal ended the drain.
    """
    with interrupts() as events:
        async with Supervisor(complain) as supervisor:
            code = await first(
                _outcome(work(supervisor), complain), _after(events.asked, interrupted), _refused(supervisor)
            )
            if supervisor.children:
                say("stopping: calls in progress may finish; a second Ctrl-C kills")
            code = await first(_drain(supervisor, drain_seconds, code), _after(events.insisted, KILLED))
            return interrupted if code == DISPLACED and events.asked.is_set() else code


async def draw_again(attempt: Callable[[], Awaitable[int]], complain: Say) -> int:
    """Run `attempt`, which draws ports, and again if a program was displaced from its port, up to three times."""
    for _ in range(_DRAWS - 1):
        code = await attempt()
        if code != DISPLACED:
            return code
        complain("starting again, on other ports")
    return await attempt()


async def forever() -> int:
    """The work that never ends by itself."""
    never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    return await never


def drain_seconds(settings: Settings) -> float:
    """How long programs with these settings may take to end: the drain that the settings allow, and some more."""
    return 1.1 * settings.propagation + settings.grace + _MARGIN  # the tenth: `grpc_registry.lifecycle`


async def _outcome(work: Awaitable[int], complain: Say) -> int:
    try:
        return await work
    except LaunchError as error:
        complain(str(error))
        return 1


async def _after(event: asyncio.Event, code: int) -> int:
    await event.wait()
    return code


async def _refused(supervisor: Supervisor) -> int:
    child = await supervisor.refusal()
    return DISPLACED if child.displaced else REFUSED


async def _drain(supervisor: Supervisor, seconds: float, code: int) -> int:
    killed = []
    for _, children in groupby(sorted(supervisor.children, key=_stage), key=_stage):
        killed += await supervisor.drain(children, seconds)
    return code or (1 if killed else 0)


def _stage(child: Child) -> int:
    return child.program.stage
