"""Certificates of an authority of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shop_services.launch.certificates import make_certificates

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes or renews certificates in a directory of the name that it is given."""

    def made(name: str) -> Path:
        make_certificates(tmp_path / name, now=datetime.now(UTC))
        return tmp_path / name

    return made


@pytest.fixture
def certificates(make: Make) -> Path:
    return make("certificates")


@pytest.fixture
def foreign(make: Make, certificates: Path) -> Path:
    """What somebody has who trusts our authority, with certificates of another."""
    directory = make("foreign")
    shutil.copy(certificates / "ca.pem", directory / "ca.pem")
    return directory
