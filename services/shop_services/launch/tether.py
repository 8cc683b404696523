"""Runs a program that cannot outlive its parent: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT…`.

A parent that is killed by SIGKILL can clean up nothing, so the kernel must do it: on Linux the program is killed in the
moment in which its parent dies. Elsewhere nothing ties it.

This is a script of its own and not a `preexec_fn`, since Python code between fork and exec can deadlock in a process
with threads, and gRPC has many. It imports nothing but the standard library, to be gone in about 20 ms.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); the setting survives the exec, and counts from the *thread* that started this process


def main(parent: int, command: list[str]) -> None:
    """Become `command`. Exits with 127 if that cannot be run, as a shell does."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above, which therefore came too late
            sys.exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606 - this is what it is for; no shell takes part
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - there is no logging yet, and never will be
        sys.exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
