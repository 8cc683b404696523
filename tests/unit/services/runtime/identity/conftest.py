"""Keys for tests of who is who: in memory and in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.keys import MemoryKeys
from tests.unit.services.runtime.identity.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "files"])
def keys(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> MemoryKeys | KeyDirectory:
    """Keys that make what is missing."""
    return MemoryKeys(clock) if request.param == "memory" else KeyDirectory(tmp_path / "keys", make=True, clock=clock)
