"""A session: from the first start to the last drain, with real processes and real signals to this one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shop_services.launch.errors import NotReady
from shop_services.launch.ports import LOOPBACK
from shop_services.launch.program import Program
from shop_services.launch.session import DISPLACED, draw_again, forever, run_session
from shop_services.launch.supervisor import Child, Supervisor
from tests.servers import free_port

# Says what it does in a file that all programs of a test share, so that their order shows. Its drain takes some
# seconds, and lasts until the file has what it awaits.
SCRIPT = """
import signal, sys, time
def say(text):
    with open({diary!r}, "a") as diary:
        print({name!r}, text, file=diary)
def drain(*_):
    say("drains")
    time.sleep({takes})
    while {awaits!r} not in open({diary!r}).read():
        time.sleep(0.01)
    say("ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
say("starts")
time.sleep(60)
"""


class Session:
    """Programs that keep a diary, and what a session said of them."""

    def __init__(self, directory: Path) -> None:
        self.lines: list[str] = []
        self.log = directory / "log"
        self._diary = directory / "diary"
        self._diary.touch()

    def start(self, supervisor: Supervisor, name: str, *, stage: int = 0, takes: float = 0, awaits: str = "") -> Child:
        script = SCRIPT.format(diary=str(self._diary), name=name, takes=takes, awaits=awaits)
        return supervisor.start(Program(name, (sys.executable, "-I", "-S", "-c", script), {}, self.log, stage))

    def diary(self) -> list[str]:
        return self._diary.read_text().splitlines()

    async def wrote(self, *entries: str) -> None:
        async with asyncio.timeout(20):
            while not set(entries) <= set(self.diary()):  # noqa: ASYNC110 - nobody tells of a file
                await asyncio.sleep(0.01)

    async def run(self, work: Callable[[Supervisor], Awaitable[int]], *, drain_seconds: float = 20) -> int:
        async with asyncio.timeout(30):
            return await run_session(
                work, drain_seconds=drain_seconds, say=self.lines.append, complain=self.lines.append, interrupted=7
            )


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


async def test_ends_with_its_work(session: Session) -> None:
    """When the work ends, what it started is drained, and the exit code is the work's."""

    async def work(supervisor: Supervisor) -> int:
        session.start(supervisor, "user-1")
        await session.wrote("user-1 starts")
        return 5

    assert await session.run(work) == 5
    assert session.diary() == ["user-1 starts", "user-1 drains", "user-1 ends"]


async def test_a_signal_drains_services_before_what_they_need(session: Session) -> None:
    """SIGTERM drains the services together, and etcd only when the last of them has ended."""

    async def work(supervisor: Supervisor) -> int:
        session.start(supervisor, "etcd", stage=1)
        session.start(supervisor, "user-1", awaits="user-2 drains")
        session.start(supervisor, "user-2", awaits="user-1 drains")
        await session.wrote("etcd starts", "user-1 starts", "user-2 starts")
        os.kill(os.getpid(), signal.SIGTERM)
        return await forever()

    assert await session.run(work) == 7
    drained = session.diary()[3:]
    assert set(drained[:2]) == {"user-1 drains", "user-2 drains"}
    assert set(drained[2:4]) == {"user-1 ends", "user-2 ends"}
    assert drained[4:] == ["etcd drains", "etcd ends"]


async def test_a_second_signal_kills(session: Session) -> None:
    """A second Ctrl-C ends a drain that takes long, with exit code 130 and no process left."""
    children: list[Child] = []

    async def insist() -> None:
        await session.wrote("user-1 drains")
        os.kill(os.getpid(), signal.SIGINT)

    async def work(supervisor: Supervisor) -> int:
        children.append(session.start(supervisor, "user-1", takes=60))
        await session.wrote("user-1 starts")
        os.kill(os.getpid(), signal.SIGINT)
        return await forever()

    insisting = asyncio.create_task(insist())
    assert await session.run(work) == 130
    await insisting
    assert children[0].pid is None
    assert "user-1 ends" not in session.diary()


async def test_a_program_that_must_be_killed_fails_the_session(session: Session) -> None:
    """A drain that is not over in time ends with a kill, which is told and is no success."""

    async def work(supervisor: Supervisor) -> int:
        session.start(supervisor, "user-1", takes=60)
        await session.wrote("user-1 starts")
        return 0

    assert await session.run(work, drain_seconds=0.2) == 1
    assert "did not end within" in session.lines[-1]


async def test_a_refused_setting_ends_the_session(session: Session) -> None:
    """A program that refuses its settings stops all, with exit code 2 and the last lines of its log."""

    async def work(supervisor: Supervisor) -> int:
        script = "import sys; print('noise'); sys.stdout.flush(); print('SHOP_ZONE: too long'); sys.exit(2)"
        session.start(supervisor, "user-1")
        await session.wrote("user-1 starts")
        supervisor.start(Program("user-2", (sys.executable, "-I", "-S", "-c", script), {}, session.log))
        return await forever()

    assert await session.run(work) == 2
    assert session.lines[0].splitlines()[1:] == ["    noise", "    SHOP_ZONE: too long"]
    assert session.diary()[-1] == "user-1 ends"


async def test_another_draw_follows_when_a_port_is_taken(session: Session) -> None:
    """A program that ends since its drawn port is taken ends the session with 75; the next draw may do better."""
    draws: list[int] = []

    with socket.create_server((LOOPBACK, 0)) as taken:

        async def attempt() -> int:
            draws.append(free_port() if draws else taken.getsockname()[1])

            async def work(supervisor: Supervisor) -> int:
                session.start(supervisor, f"user-{len(draws)}")
                await session.wrote(f"user-{len(draws)} starts")
                script = f"import socket; socket.create_server(({LOOPBACK!r}, {draws[-1]}))"
                supervisor.start(
                    Program(
                        "cache-1",
                        (sys.executable, "-I", "-S", "-c", f"{script}; open({str(session.log)!r}, 'w').write('bound')"),
                        {},
                        drawn_ports=(draws[-1],),
                    )
                )
                while not session.log.exists() or session.log.read_text() != "bound":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                return 0

            return await session.run(work)

        assert await draw_again(attempt, session.lines.append) == 0
    assert len(draws) == 2
    assert "somebody else has taken its port" in session.lines[0]
    assert "starting again, on other ports" in session.lines
    assert "user-1 ends" in session.diary()


async def test_draws_are_limited(session: Session) -> None:
    """Ports that are always taken end the start after three draws, with 75."""
    draws: list[int] = []

    async def attempt() -> int:
        draws.append(1)
        return DISPLACED

    assert await draw_again(attempt, session.lines.append) == 75
    assert len(draws) == 3


async def test_a_failed_start_is_explained(session: Session) -> None:
    """Work that gives up says why, and what it started so far is drained."""

    async def work(supervisor: Supervisor) -> int:
        session.start(supervisor, "user-1")
        await session.wrote("user-1 starts")
        raise NotReady("user-1 is not ready")

    assert await session.run(work) == 1
    assert session.lines[0] == "user-1 is not ready"
    assert session.diary()[-1] == "user-1 ends"
