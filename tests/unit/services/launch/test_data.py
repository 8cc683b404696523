"""The lock on a data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shop_services.launch.data import DataDirectory
from shop_services.launch.errors import DirectoryInUse


def test_refuses_a_second_holder_and_names_the_first(tmp_path: Path) -> None:
    """A directory in use is refused with its path and the pid that holds it."""
    path = tmp_path / "made" / "when missing"
    with DataDirectory(path):
        with pytest.raises(DirectoryInUse) as caught, DataDirectory(path):
            pass
        assert str(caught.value).startswith(f"{path} is in use by another shop (pid {os.getpid()}): ")


def test_is_free_again_afterwards(tmp_path: Path) -> None:
    """The directory can be held again once it was let go, whatever the last holder's pid was."""
    with DataDirectory(tmp_path):
        pass
    (tmp_path / "lock").write_text("99999999 and more than one pid's digits\n")
    with DataDirectory(tmp_path) as data:
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        assert data.log("user-1") == tmp_path / "logs" / "user-1.log"
