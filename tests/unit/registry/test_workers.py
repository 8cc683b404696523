"""Workers, as processes: a script that runs some, each of which keeps a diary and ends as its test wants it to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from grpc_registry import workers

# What a worker does when it has begun, and when it is told to end, is the test's choice.
SCRIPT = """
import asyncio, os, signal, sys
from functools import partial
from pathlib import Path
from grpc_registry import workers

async def main(diary, begin, end, worker):
    def say(text):
        with open(diary, "a") as file:
            print(worker, os.getpid(), text, file=file)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    say("begins")
    exec(begin)
    await told.wait()
    say("drains")
    exec(end)
    say("ends")

if __name__ == "__main__":
    diary, number, seconds, begin, end = sys.argv[1:]
    sys.exit(workers.run(partial(main, diary, begin, end), int(number), drain_seconds=float(seconds)))
"""


class Server:
    """The script, run in a session of its own, and what its workers wrote."""

    def __init__(self, directory: Path, number: int, *, drain_seconds: float, begin: str, end: str) -> None:
        self._diary = directory / "diary"
        self._diary.touch()
        self.errors = directory / "errors"
        script = directory / "server.py"
        script.write_text(SCRIPT)
        command = [sys.executable, str(script), str(self._diary), str(number), str(drain_seconds), begin, end]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stderr=errors, start_new_session=True)

    def said(self, text: str) -> list[tuple[int, int]]:
        """Who wrote this so far: worker and pid, in this order."""
        lines = [line.split() for line in self._diary.read_text().splitlines()]
        return [(int(worker), int(pid)) for worker, pid, what in lines if what == text]

    def wait_for(self, text: str, times: int) -> list[tuple[int, int]]:
        """Who wrote this, once it was written so many times. Fails after 30 s."""
        until(lambda: len(self.said(text)) >= times)
        return self.said(text)

    def end(self) -> None:
        for pid in [self.process.pid, *(pid for _, pid in self.said("begins"))]:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(number: int, *, drain_seconds: float = 20, begin: str = "", end: str = "") -> Server:
        started.append(Server(tmp_path, number, drain_seconds=drain_seconds, begin=begin, end=end))
        return started[-1]

    yield start
    for server in started:
        server.end()


def test_workers_are_processes_that_drain_together(start: Start) -> None:
    """Each worker is a process that knows its number; SIGTERM reaches each once, and the exit code is 0."""
    server = start(3, end="__import__('time').sleep(0.5)")
    begun = server.wait_for("begins", 3)
    assert {worker for worker, _ in begun} == {0, 1, 2}
    assert len({pid for _, pid in begun} | {server.process.pid}) == 4
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert sorted(server.said("drains")) == sorted(server.said("ends")) == sorted(begun)
    assert server.errors.read_text() == ""


def test_ctrl_c_is_one_signal_to_each_worker(start: Start) -> None:
    """A Ctrl-C, which a terminal sends to all, drains each worker once, by way of the parent."""
    server = start(2, end="__import__('time').sleep(0.5)")
    begun = server.wait_for("begins", 2)
    assert all(os.getpgid(pid) == pid for _, pid in begun)  # none is in the group that the terminal knows
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) == 0
    assert sorted(server.said("drains")) == sorted(server.said("ends")) == sorted(begun)
    assert server.errors.read_text() == ""


def test_ctrl_c_leaves_a_worker_alone_that_is_still_importing(tmp_path: Path) -> None:
    """Until a worker has left the terminal's group a Ctrl-C reaches it, too, and makes no traceback."""
    script = tmp_path / "slow.py"
    script.write_text(
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from grpc_registry import workers\n"
        "if __name__ == '__mp_main__':\n"
        "    print(os.getpid(), flush=True)\n"
        "    while not Path(sys.argv[1]).exists():\n"
        "        time.sleep(0.01)\n"
        "async def main(worker):\n"
        "    print('begins', flush=True)\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(workers.run(main, 1))\n"
    )
    sent = tmp_path / "sent"
    command = [sys.executable, str(script), str(sent)]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        os.kill(int(process.stdout.readline()), signal.SIGINT)
        sent.touch()
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "begins\n", "")


def test_who_dies_is_started_again(start: Start) -> None:
    """A worker that is killed has a successor with the same number, and the others go on."""
    server = start(2)
    (victim, pid), (other, other_pid) = server.wait_for("begins", 2)
    os.kill(pid, signal.SIGKILL)
    assert server.wait_for("begins", 3)[2][0] == victim
    assert lives(other_pid)
    assert f"worker {victim} (pid {pid}) was ended by signal 9 (Killed); it is started again in" in (
        server.errors.read_text()
    )
    assert other != victim


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing but its sentinel tells of a process")
def test_what_a_worker_forked_may_outlive_it(start: Start) -> None:
    """A worker that is killed is started again though a process that it forked (of a pool, say) goes on."""
    server = start(1, begin="os.fork() or (__import__('time').sleep(45), os._exit(0))")
    ((_, pid),) = server.wait_for("begins", 1)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    server.wait_for("begins", 2)
    assert time.monotonic() - began < 30


def test_a_failure_at_the_first_start_ends_all(start: Start) -> None:
    """What raises at once would raise again: the others drain, the reason is shown, and the exit code is 1."""
    server = start(2, begin="if worker == 1: raise OSError('port 1 is in use')")
    assert server.process.wait(60) == 1
    errors = server.errors.read_text()
    assert "OSError: port 1 is in use" in errors
    assert "worker 1 " in errors
    assert "exited with 1 as soon as it was started" in errors
    assert len(server.said("begins")) == len({worker for worker, _ in server.said("begins")})


def test_who_lost_its_server_is_started_again(start: Start) -> None:
    """Also at once after its first start: a caller may have done that, who must not end all workers by it."""
    lose = "from grpc_registry import ServerEnded\nraise ServerEnded('it takes no calls any more')"
    server = start(1, begin=f"if open(diary).read().count('begins') == 1: exec({lose!r})")
    server.wait_for("begins", 2)
    server.process.terminate()
    assert server.process.wait(60) == 0
    errors = server.errors.read_text().splitlines()
    assert errors[0] == "it takes no calls any more"
    assert "exited with 75; it is started again in" in errors[1]


def test_who_started_well_drains_when_another_fails(start: Start) -> None:
    """The end of all after a failed start is a drain for those that serve already, not a kill."""
    fail = "while not any(line.startswith('0 ') for line in open(diary)): pass\nraise OSError('port 1 is in use')"
    server = start(2, begin=f"if worker == 1: exec({fail!r})", end="__import__('time').sleep(0.5)")
    assert server.process.wait(60) == 1
    assert [worker for worker, _ in server.said("ends")] == [0]


def test_who_returns_has_done_its_work(start: Start) -> None:
    """When every worker's `main` has returned, so has `run`, with 0."""
    server = start(2, begin="told.set()")
    assert server.process.wait(60) == 0
    assert len(server.said("ends")) == 2


def test_who_does_not_end_in_time_is_killed(start: Start) -> None:
    """A worker that takes longer than `drain_seconds` is killed, and the exit code is 1."""
    server = start(2, drain_seconds=5, end="if worker == 0: __import__('time').sleep(60)")
    server.wait_for("begins", 2)
    server.process.terminate()
    assert server.process.wait(60) == 1
    assert [worker for worker, _ in server.said("ends")] == [1]
    assert not any(lives(pid) for _, pid in server.said("begins"))


def test_a_second_signal_kills(start: Start) -> None:
    """A second SIGTERM waits for nobody: 130, and no worker is left."""
    server = start(2, end="__import__('time').sleep(60)")
    server.wait_for("begins", 2)
    server.process.terminate()
    server.wait_for("drains", 2)
    server.process.terminate()
    assert server.process.wait(30) == 130
    assert not any(lives(pid) for _, pid in server.said("begins"))


def test_workers_drain_when_their_parent_is_killed(start: Start) -> None:
    """kill -9 of the parent leaves no worker behind, and each of them drains."""
    server = start(2)
    begun = server.wait_for("begins", 2)
    server.process.kill()
    assert len(server.wait_for("ends", 2)) == 2
    until(lambda: not any(lives(pid) for _, pid in begun))


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    """A script that calls `run` when it is imported ends with Python's explanation, and does not try again."""
    script = tmp_path / "unguarded.py"
    script.write_text("import asyncio\nfrom grpc_registry import workers\nworkers.run(asyncio.sleep, 1)\n")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert "if __name__ == '__main__':" in result.stderr
    assert result.stderr.count("as soon as it was started") == 1


def test_there_is_at_least_one() -> None:
    """No workers is a mistake, which is named."""
    with pytest.raises(ValueError, match="number of workers: at least 1, not 0"):
        workers.run(_never, 0)


async def _never(worker: int) -> None:
    raise AssertionError
