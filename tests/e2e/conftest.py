"""The whole shop, as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running_shop import RunningShop

LEASE_TTL = 30
"""Seconds, ten times the default: nobody leaves the registry because the machine was busy, or we froze him."""


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A shop for all tests that leave it as they found it: every service with two instances or more."""
    shop = RunningShop(tmp_path_factory.mktemp("shop") / "data", SHOP_LEASE_TTL=str(LEASE_TTL))
    try:
        yield shop.start()
    finally:
        shop.kill()


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[RunningShop]:
    """A shop of the test's own, not started yet."""
    shop = RunningShop(tmp_path / "data", "--replicas", "1")
    try:
        yield shop
    finally:
        shop.kill()
