"""Ports of the loopback."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Iterator

import pytest

from shop_services.launch.ports import LOOPBACK, free_port, holder, is_free
from tests.servers import free_port as free_port_of_ours  # which no other process of these tests takes


@pytest.fixture
def listening() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_not_free(listening: int) -> None:
    """A port with a listener is not free."""
    assert not is_free(listening)


def test_prefers_the_port_asked_for(listening: int) -> None:
    """The preferred port is given when it is free, and another when it is not."""
    rng = random.Random(1)
    free = free_port_of_ours()
    assert free_port(free, rng=rng) == free
    assert free_port(listening, rng=rng) != listening


@pytest.mark.skipif(sys.platform != "linux", reason="who listens is read from /proc")
def test_names_the_holder(listening: int) -> None:
    """The process that listens on a port is named with its pid; nobody is named for a free port."""
    assert holder(listening).endswith(f" (pid {os.getpid()})")
    assert holder(free_port_of_ours()) == ""
