"""The supervisor, with real processes: tiny scripts in place of services."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shop_services.launch.logs import MAX_BYTES
from shop_services.launch.ports import LOOPBACK
from shop_services.launch.program import Program
from shop_services.launch.supervisor import Backoff, Child, Supervisor

STAYS = "print('here', flush=True); import time; time.sleep(60)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('here', flush=True)
time.sleep(60)
"""
# Its handler writes past print's buffer: the signal may come while print still has that, as soon as "here" is written.
POLITE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'drained\\n'), sys.exit(0)))
print('here', flush=True)
time.sleep(60)
"""


class Shop:
    """A supervisor whose reports can be awaited, with scripts as its programs."""

    def __init__(self, directory: Path) -> None:
        self.reports: asyncio.Queue[str] = asyncio.Queue()
        self.supervisor = Supervisor(self.reports.put_nowait, trim_interval=0.05)
        self._directory = directory

    def start(self, name: str, script: str, died: Callable[[], None] = lambda: None) -> Child:
        command = (sys.executable, "-I", "-S", "-c", script)
        return self.supervisor.start(Program(name, command, {}, self._directory / f"{name}.log"), died)

    async def wrote(self, child: Child, text: str, times: int = 1) -> None:
        """Return when the child's log has `text` so many times."""
        log = child.program.log
        assert log is not None
        async with asyncio.timeout(20):
            while not log.exists() or log.read_text().count(text) < times:  # noqa: ASYNC110 - nobody tells of a file
                await asyncio.sleep(0.01)

    async def report(self) -> str:
        async with asyncio.timeout(20):
            return await self.reports.get()

    async def pid(self, child: Child) -> int:
        """The pid of a child that runs: it may have written before its start has returned here."""
        async with asyncio.timeout(20):
            while (pid := child.pid) is None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
            return pid

    async def ended(self, child: Child) -> None:
        """Return when the child has ended for good."""
        await asyncio.wait([self.supervisor._tasks[child]])


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    async with shop.supervisor:
        yield shop


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_starts_a_program_again_when_it_dies(shop: Shop) -> None:
    """A program killed by SIGKILL is reported in one line that names it, its pid and its end, and runs again."""
    child = shop.start("product-1", STAYS)
    await shop.wrote(child, "here")
    first = await shop.pid(child)

    os.kill(first, signal.SIGKILL)

    assert await shop.report() == f"product-1 (pid {first}) was killed by SIGKILL; it is started again in 0.2 s"
    await shop.wrote(child, "here", times=2)
    assert await shop.pid(child) != first
    assert child.starts == 2


async def test_pauses_grow_while_a_program_keeps_dying(shop: Shop) -> None:
    """A program that ends at once is started again after 0.2 s, then 0.4 s, then 0.8 s."""
    shop.start("user-1", "raise SystemExit(3)")
    said = [await shop.report() for _ in range(3)]
    assert [line.rpartition(" in ")[2] for line in said] == ["0.2 s", "0.4 s", "0.8 s"]
    assert all("exited with 3" in line for line in said)


def test_pauses_are_bounded_and_begin_anew_after_a_good_run() -> None:
    """No pause exceeds 10 s, and a run of half a minute brings the first pause back."""
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert backoff.after(30) == 0.2
    assert backoff.after(1) == 0.4


async def test_a_failure_is_told_with_the_programs_last_words(shop: Shop) -> None:
    """After an exit with a code the report ends with the last three lines of that run, and of none before it."""
    script = "import sys; [print('line', n, file=sys.stderr) for n in range(5)]; sys.exit('no database')"
    child = shop.start("user-1", script)
    report = await shop.report()
    assert report.endswith("it is started again in 0.2 s\n    line 3\n    line 4\n    no database")
    await shop.supervisor.drain([child], 10)
    shop.start("user-1", "raise SystemExit(1)")  # in the same log
    assert (await shop.report()).endswith("it is started again in 0.2 s")


async def test_a_taken_port_is_told_apart_from_a_refusal(shop: Shop) -> None:
    """A program that ends at its first start while another has the port drawn for it was displaced, not refused."""
    with socket.create_server((LOOPBACK, 0)) as server:
        ports = (server.getsockname()[1],)
        command = (sys.executable, "-I", "-S", "-c", "raise SystemExit(2)")
        child = shop.supervisor.start(Program("etcd", command, {}, drawn_ports=ports))
        async with asyncio.timeout(20):
            assert await shop.supervisor.refusal() is child
    assert child.displaced
    assert not child.refused
    assert "somebody else has taken its port" in await shop.report()


async def test_tells_of_deaths_alone(shop: Shop) -> None:
    """Who wants to know of deaths is told of each, before the next start, and not of an end that was asked for."""
    starts: list[int] = []
    child = shop.start("user-1", POLITE, lambda: starts.append(child.starts))
    for start in (1, 2):
        await shop.wrote(child, "here", times=start)
        assert starts == list(range(1, start))
        os.kill(await shop.pid(child), signal.SIGKILL)
        await shop.report()
    await shop.wrote(child, "here", times=3)
    await shop.supervisor.drain([child], 10)
    assert starts == [1, 2]


async def test_gives_up_on_a_program_that_refuses_its_settings(shop: Shop) -> None:
    """A program that exits with 2 is not started again, and the supervisor tells who waits for a refusal."""
    other = shop.start("user-1", STAYS)
    child = shop.start("order-1", "raise SystemExit(2)")
    async with asyncio.timeout(20):
        assert await shop.supervisor.refusal() is child
    assert "refuses its settings" in await shop.report()
    assert child.starts == 1
    assert not other.refused


async def test_a_program_that_ran_before_does_not_refuse(shop: Shop, tmp_path: Path) -> None:
    """An exit with 2 is a reason to give up at the first start alone: later it is a death like any other."""
    ran = tmp_path / "ran"
    script = f"import os, sys; sys.exit(2) if os.path.exists({str(ran)!r}) else open({str(ran)!r}, 'w'); sys.exit(1)"
    child = shop.start("user-1", script)
    assert "exited with 1; it is started again" in await shop.report()
    assert "exited with 2; it is started again" in await shop.report()
    assert not child.refused


async def test_says_which_program_cannot_be_run(shop: Shop, tmp_path: Path) -> None:
    """A program that does not exist is named in its log, and reported as an exit with 127."""
    missing = tmp_path / "no-such-program"
    child = shop.supervisor.start(Program("etcd", (str(missing),), {}, tmp_path / "etcd.log"))
    assert "exited with 127" in await shop.report()
    await shop.wrote(child, f"{missing}: No such file or directory")


async def test_drain_lets_programs_finish(shop: Shop) -> None:
    """Drain sends SIGTERM to all at once, waits for their end, and starts none of them again."""
    children = [shop.start(f"cache-{n}", POLITE) for n in range(3)]
    for child in children:
        await shop.wrote(child, "here")

    assert await shop.supervisor.drain(children, 20) == []

    for child in children:
        await shop.wrote(child, "drained")
        assert child.pid is None
        assert child.starts == 1
    assert shop.reports.empty()


async def test_drain_kills_who_does_not_end_in_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores SIGTERM is killed when the time is over, and named."""
    polite, stubborn = shop.start("user-1", POLITE), shop.start("user-2", STUBBORN)
    await shop.wrote(polite, "here")
    await shop.wrote(stubborn, "here")
    pid = await shop.pid(stubborn)

    loop = asyncio.get_running_loop()
    draining = asyncio.create_task(shop.supervisor.drain([polite, stubborn], 60))
    await shop.ended(polite)
    assert not draining.done()
    now = loop.time
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", lambda: now() + 60)  # so the polite one has all the time that it needs
        assert await draining == [stubborn]
    assert await shop.report() == f"user-2 (pid {pid}) did not end within 60 s and is killed"
    assert not exists(pid)


async def test_drain_ends_the_pause_of_a_program_that_died(shop: Shop) -> None:
    """A program that waits to be started again is not started again once it is drained."""
    child = shop.start("user-1", "raise SystemExit(1)")
    await shop.report()
    await shop.supervisor.drain([child], 10)
    assert child.starts == 1


async def test_leaves_no_process_behind(tmp_path: Path) -> None:
    """Leaving the supervisor kills what still runs, even what was only just being started."""
    shop = Shop(tmp_path)
    async with shop.supervisor:
        stubborn = shop.start("user-1", STUBBORN)
        await shop.wrote(stubborn, "here")
        pid = await shop.pid(stubborn)
        late = shop.start("user-2", STUBBORN)
        await asyncio.sleep(0)  # its start has begun, and it has no process yet
        assert late.pid is None
    assert not exists(pid)
    assert late.pid is None


async def test_bounds_the_logs_of_running_programs(shop: Shop, tmp_path: Path) -> None:
    """A program that writes without end cannot fill the disk: what exceeds the bound moves aside, and is replaced."""
    child = shop.start("user-1", f"print('x' * {MAX_BYTES}, flush=True); {STAYS}")
    async with asyncio.timeout(20):
        while not (tmp_path / "user-1.log.1").exists():  # noqa: ASYNC110 - nobody tells of a file
            await asyncio.sleep(0.01)
    await shop.supervisor.drain([child], 10)
    assert (tmp_path / "user-1.log").stat().st_size < MAX_BYTES


async def test_children_do_not_get_the_terminals_ctrl_c(shop: Shop) -> None:
    """Each program leads a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone."""
    child = shop.start("user-1", STAYS)
    await shop.wrote(child, "here")
    pid = await shop.pid(child)
    assert os.getsid(pid) == pid != os.getsid(0)
