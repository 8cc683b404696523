"""The `shop` command. What it is made of is imported when it runs, so that a Ctrl-C meanwhile can end it in silence."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 (it failed), 2 (a wrong flag or variable)."""
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing runs yet: no need for an exception
    from shop_services.cli.command import run

    signal.signal(signal.SIGINT, interrupted)
    return run(arguments)
