"""The browser that tests use: Debian's, since the one that Playwright would fetch comes from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_WAIT = ["-o", "DPkg::Lock::Timeout=240"]  # for the other process that tests run in


def chromium() -> str:
    """The path of a Chromium, which is installed where that is allowed and it is not there; fails without one."""
    if (path := _installed()) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "--quiet", *_WAIT, *command], timeout=300, capture_output=True, check=False)
        path = _installed()
    if path is None:
        pytest.fail("no Chromium is here, and none could be installed: as root, run `apt-get install chromium`")
    return path


def _installed() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)
