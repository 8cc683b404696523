"""The golden files beside this module: a key and a value, as `etcdctl get` prints them."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> tuple[bytes, bytes]:
    """The key and the value in the file `name`."""
    key, value, rest = (_FOLDER / f"{name}.txt").read_bytes().split(b"\n")
    assert not rest
    return key, value
