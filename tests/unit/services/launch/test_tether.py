"""The tether: no program outlives its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shop_services.launch import tether

SCRIPT = str(Path(tether.__file__))
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[1], str(os.getpid()), *sys.argv[2:]])
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its parent")
def test_kills_the_program_when_its_parent_is_killed() -> None:
    """A parent that dies by SIGKILL takes the program along, which could not have noticed by itself."""
    script = "import os, time; print('here', os.getpid(), flush=True); time.sleep(60)"
    program = [sys.executable, "-I", "-S", "-c", script]
    command = [sys.executable, "-I", "-S", "-c", PARENT, SCRIPT, *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        here, pid = parent.stdout.readline().split()
        assert here == "here"
        child = os.pidfd_open(int(pid))
        parent.kill()
        ended, _, _ = select.select([child], [], [], 20)
        os.close(child)
        assert ended, f"process {pid} outlived its parent"


def test_does_not_start_without_its_parent() -> None:
    """A program whose parent died before it could be tied to it is not run at all."""
    command = [sys.executable, "-I", "-S", SCRIPT, "1", sys.executable, "-c", "print('here')"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stdout) == (1, "") if sys.platform == "linux" else result.stdout == "here\n"


def test_passes_on_the_programs_exit_code() -> None:
    """The program takes the tether's place: its exit code and its signals are its own."""
    command = [sys.executable, "-I", "-S", SCRIPT, str(os.getpid()), sys.executable, "-c"]
    for script, code in {"raise SystemExit(7)": 7, "import os; os.kill(os.getpid(), 15)": -signal.SIGTERM}.items():
        assert subprocess.run([*command, script], timeout=20, check=False).returncode == code
