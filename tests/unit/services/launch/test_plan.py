"""The plan of a shop: what is to run, decided before anything starts."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop_services.launch.data import DataDirectory
from shop_services.launch.errors import LaunchError
from shop_services.launch.plan import SERVICES, Plan, plan_shop
from shop_services.launch.ports import LOOPBACK
from shop_services.runtime.settings import SettingError


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data") as data:
        yield data


def plan(data: DataDirectory, *, replicas: int = 2, port: int = 0, **environment: str) -> Plan:
    return plan_shop(environment, data, replicas=replicas, port=port, rng=random.Random(4))


def test_every_service_has_its_replicas_on_ports_of_their_own(data: DataDirectory) -> None:
    """Each service gets so many instances, named and numbered, and no two programs share a port."""
    made = plan(data, replicas=3)
    assert [part.program.name for part in made.parts] == [f"{name}-{n}" for name in SERVICES for n in (1, 2, 3)]
    assert len({part.address for part in made.parts} | {made.registry_url}) == 16
    for part in made.parts:
        assert part.program.environment["SHOP_PORT"] == part.address.rpartition(":")[2]
        assert part.program.environment["SHOP_DATA"] == str(data.path)
        assert part.program.environment["REGISTRY_URL"] == made.registry_url
        assert part.program.log == data.log(part.program.name)


def test_the_first_gateway_has_the_port_asked_for(data: DataDirectory) -> None:
    """`--port` is the first gateway's port, which the URL names."""
    free = int(plan(data).gateway_url.rpartition(":")[2])
    made = plan(data, port=free)
    assert made.gateway_url == f"http://127.0.0.1:{free}"
    assert next(part.address for part in made.parts if part.service == "gateway") == f"127.0.0.1:{free}"


def test_only_ports_that_were_asked_for_are_not_drawn(data: DataDirectory) -> None:
    """Every port was drawn, and may be drawn again, but the gateway's with `--port`."""
    free = int(plan(data).gateway_url.rpartition(":")[2])
    for made, asked_for in ((plan(data), 0), (plan(data, port=free), free)):
        assert made.etcd is not None
        assert len(made.etcd.program.drawn_ports) == 2
        for part in made.parts:
            port = int(part.address.rpartition(":")[2])
            assert part.program.drawn_ports == (() if port == asked_for else (port,))


def test_etcd_outlives_the_services(data: DataDirectory) -> None:
    """The embedded etcd is drained after the services, keeps its data in the directory, and is their registry."""
    made = plan(data)
    assert made.etcd is not None
    assert made.etcd.program.stage > max(part.program.stage for part in made.parts)
    assert f"--data-dir={data.etcd}" in made.etcd.program.command
    assert f"--listen-client-urls={made.registry_url.replace('etcd:', 'http:')}" in made.etcd.program.command


def test_a_registry_that_runs_is_used(data: DataDirectory) -> None:
    """With REGISTRY_URL no etcd is started, and its password is not shown."""
    made = plan(data, REGISTRY_URL="etcds://shop:secret@etcd.example:2379/mesh")
    assert made.etcd is None
    assert made.parts[0].program.environment["REGISTRY_URL"] == "etcds://shop:secret@etcd.example:2379/mesh"
    assert made.shown_registry_url == "etcds://etcd.example:2379/mesh"


def test_a_port_in_use_is_refused_with_its_holder(data: DataDirectory) -> None:
    """A gateway port that is taken is refused: which, by whom, and what to do about it."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"port {port} is in use( by .* \(pid {os.getpid()}\))?: .*--port"):
            plan(data, port=port)


def test_a_registry_in_memory_is_refused(data: DataDirectory) -> None:
    """memory:// cannot be shared by processes, so a shop of several refuses it by the variable's name."""
    with pytest.raises(SettingError, match="REGISTRY_URL"):
        plan(data, REGISTRY_URL="memory://")


def test_a_wrong_variable_is_named(data: DataDirectory) -> None:
    """A variable that no service could use is refused before anything starts."""
    with pytest.raises(SettingError, match="SHOP_WEIGHT"):
        plan(data, SHOP_WEIGHT="heavy")
