"""buildscripts/venv, on machines where it cannot work, says what is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TOOLS = ("bash", "cat", "cksum", "dirname", "find", "grep", "sort", "xargs")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the script reads, in a folder of its own without a .venv."""
    shutil.copytree(ROOT / "buildscripts", tmp_path / "clone/buildscripts")
    shutil.copytree(ROOT / "protos", tmp_path / "clone/protos", ignore=shutil.ignore_patterns("build", "__pycache__"))
    for folder in ("registry", "client", "services"):
        (tmp_path / "clone" / folder).mkdir()
        shutil.copy(ROOT / folder / "pyproject.toml", tmp_path / "clone" / folder)
    return tmp_path / "clone"


def run(clone: Path, **pythons: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a machine that has a few tools and these commands, each given as a shell script."""
    path = clone.parent / "bin"
    path.mkdir()
    for tool in TOOLS:
        (path / tool).symlink_to(str(shutil.which(tool)))
    for name, script in pythons.items():
        (path / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
        (path / name).chmod(0o755)
    return subprocess.run(
        [clone / "buildscripts/venv"], check=False, capture_output=True, text=True, timeout=30, env={"PATH": str(path)}
    )


def test_without_python(clone: Path) -> None:
    """A machine without Python is told which one is needed, and nothing is made."""
    result = run(clone)
    assert result.returncode == 1
    assert result.stderr == ("venv: Python 3.11 or newer is needed: none was found; set PYTHON to the path of one\n")
    assert not (clone / ".venv").exists()


def test_with_an_old_python(clone: Path) -> None:
    """A machine whose Python is too old is told which it has."""
    result = run(clone, python3='case "$2" in *"[:3]"*) echo 3.9.2 ;; *) exit 1 ;; esac')
    assert result.returncode == 1
    assert "Python 3.11 or newer is needed: python3 is 3.9.2;" in result.stderr
    assert not (clone / ".venv").exists()


def test_with_a_python_that_cannot_make_environments(clone: Path) -> None:
    """A machine that has Python without ensurepip is told which package is missing."""
    result = run(clone, python3='case "$2" in *ensurepip*) exit 1 ;; *"[:3]"*) echo 3.11.2 ;; esac')
    assert result.returncode == 1
    assert "python3 (3.11.2) cannot make virtual environments; install python3-venv" in result.stderr
    assert not (clone / ".venv").exists()
