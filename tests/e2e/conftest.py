"""The whole shop, as processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.running_shop import RunningShop

LEASE_TTL = 30
"""Seconds, ten times the default: nobody leaves the registry because the machine was busy, or we froze him."""


_USUAL = (2379, 4222, 1025)
"""The ports that every shop takes if they are free: etcd's, NATS's, and the mail server's."""


@pytest.fixture(scope="session", autouse=True)
def _no_usual_ports() -> Iterator[None]:
    """No shop takes a usual port.

    Else one that starts in the other process of these tests could take it from one whose server has just been killed,
    and is about to be started again there.
    """
    with ExitStack() as stack:
        for port in _USUAL:
            with suppress(OSError):  # the other process keeps it, or a server of this machine
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        yield


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
