"""The plan of a shop: what is to run, decided before anything starts."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop_services.launch.commands import OWNERS, SERVICES
from shop_services.launch.data import DataDirectory
from shop_services.launch.errors import LaunchError
from shop_services.launch.plan import Plan, plan_shop, shown
from shop_services.launch.ports import LOOPBACK
from shop_services.launch.program import Part, Stage
from shop_services.messaging.bus import TOPICS
from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.settings import SettingError
from tests.servers import free_port


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data") as data:
        yield data


def plan(data: DataDirectory, *, replicas: int = 2, port: int = 0, **environment: str) -> Plan:
    return plan_shop(environment, data, replicas=replicas, port=port, rng=random.Random(4))


def servers(made: Plan) -> dict[str, Part]:
    return {part.service: part for part in made.servers}


def test_every_service_has_its_replicas_and_every_topic_a_worker(data: DataDirectory) -> None:
    """Services get so many instances, named and numbered, topics a worker each, and no two programs share a port."""
    made = plan(data, replicas=3)
    instances = [f"{name}-{n}" for name in SERVICES for n in (1, 2, 3)]
    assert [part.program.name for part in made.parts] == [*instances, *(f"worker-{topic}" for topic in TOPICS)]
    assert len({part.address for part in (*made.servers, *made.parts)}) == 3 * len(SERVICES) + len(TOPICS) + 3
    for part in made.parts:
        assert part.program.environment["SHOP_PORT"] == part.address.rpartition(":")[2]
        assert part.program.environment["SHOP_DATA"] == str(data.path)
        assert part.program.environment["REGISTRY_URL"] == made.settings.registry_url
        assert part.program.environment["NATS_URL"] == made.settings.nats_url
        assert part.program.log == data.log(part.program.name)


def test_keys_that_are_missing_are_named_before_anything_starts(data: DataDirectory, tmp_path: Path) -> None:
    """SHOP_KEYS_DIR must have one of each who signs; in the data directory they are made."""
    path = tmp_path / "given"
    with pytest.raises(SettingError, match=r"^SHOP_KEYS_DIR: there is no directory .*; `shop keys init` makes it$"):
        plan(data, SHOP_KEYS_DIR=str(path))
    path.mkdir()
    keys = KeyDirectory(path)
    for owner in OWNERS:
        wanted = rf"^SHOP_KEYS_DIR: there is no key of {owner} in .*; `shop keys init` makes what is missing$"
        with pytest.raises(SettingError, match=wanted):
            plan(data, SHOP_KEYS_DIR=str(path))
        keys.add(owner)
    assert plan(data, SHOP_KEYS_DIR=str(path)).settings.keys_dir == path


def test_a_worker_is_registered_by_its_topic(data: DataDirectory) -> None:
    """Workers are known as `TOPIC-worker`; orders, payments and inventory are the order service's."""
    workers = {part.service: part.program.command[3:] for part in plan(data).parts if "worker" in part.service}
    assert workers == {
        "orders-worker": ("shop_services.order.worker", "orders"),
        "payments-worker": ("shop_services.order.worker", "payments"),
        "inventory-worker": ("shop_services.order.worker", "inventory"),
        "notifications-worker": ("shop_services.notification",),
    }


def test_the_first_gateway_has_the_port_asked_for(data: DataDirectory) -> None:
    """`--port` is the first gateway's port, which the URL names."""
    free = free_port()
    made = plan(data, port=free)
    assert made.gateway_url == f"http://127.0.0.1:{free}"
    assert next(part.address for part in made.parts if part.service == "gateway") == f"127.0.0.1:{free}"


def test_only_ports_that_were_asked_for_are_not_drawn(data: DataDirectory) -> None:
    """Every port was drawn, and may be drawn again, but the gateway's with `--port`."""
    free = free_port()
    for made, asked_for in ((plan(data), 0), (plan(data, port=free), free)):
        assert {name: len(part.program.drawn_ports) for name, part in servers(made).items()} == {
            "etcd": 2,
            "nats": 1,
            "mail": 1,
        }
        for part in made.parts:
            port = int(part.address.rpartition(":")[2])
            assert part.program.drawn_ports == (() if port == asked_for else (port,))


def test_servers_outlive_the_services_and_these_the_workers(data: DataDirectory) -> None:
    """Workers are drained first, then the services that they call, then what both need."""
    made = plan(data)
    for part in made.parts:
        assert part.program.stage == (Stage.WORKERS if "worker" in part.service else Stage.SERVICES)
    assert {part.program.stage for part in made.servers} == {Stage.SERVERS}
    assert Stage.WORKERS < Stage.SERVICES < Stage.SERVERS


def test_the_embedded_servers_are_the_ones_used(data: DataDirectory) -> None:
    """etcd and NATS keep their data in the directory, and everybody is told where they and the mail server listen."""
    made = plan(data)
    etcd, nats, mail = (servers(made)[name] for name in ("etcd", "nats", "mail"))
    assert f"--data-dir={data.etcd}" in etcd.program.command
    assert f"--listen-client-urls=http://{etcd.address}" in etcd.program.command
    assert f"--store_dir={data.nats}" in nats.program.command
    assert f"--port={nats.address.rpartition(':')[2]}" in nats.program.command
    assert mail.program.environment["SHOP_PORT"] == mail.address.rpartition(":")[2]
    assert (made.settings.registry_url, made.settings.nats_url) == (f"etcd://{etcd.address}", f"nats://{nats.address}")
    assert {part.program.environment["SHOP_SMTP_URL"] for part in made.parts} == {f"smtp://{mail.address}"}


def test_the_embedded_mail_server_is_not_open_to_others(data: DataDirectory) -> None:
    """It takes mail from anybody who asks, so it listens on the loopback wherever the services do."""
    made = plan(data, SHOP_HOST="0.0.0.0", SHOP_ADVERTISE="127.0.0.1")  # noqa: S104 - nothing is bound here
    assert servers(made)["mail"].program.environment["SHOP_HOST"] == "127.0.0.1"


def test_servers_that_run_are_used(data: DataDirectory) -> None:
    """What a variable names is not started."""
    urls = {
        "REGISTRY_URL": "etcds://shop:secret@etcd.example:2379/mesh",
        "NATS_URL": "tls://shop:secret@nats.example:4222",
        "SHOP_SMTP_URL": "smtps://shop:secret@mail.example",
    }
    made = plan(data, replicas=2, port=0, **urls)
    assert made.servers == ()
    assert urls.items() <= made.parts[0].program.environment.items()
    assert (made.settings.registry_url, made.settings.nats_url) == (urls["REGISTRY_URL"], urls["NATS_URL"])


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("etcds://shop:secret@etcd.example:2379/mesh", "etcds://etcd.example:2379/mesh"),
        ("nats://shop:sec,ret@a:4222,b:4222", "nats://a:4222,b:4222"),
        ("nats://shop:secret@a:4222,shop:secret@b:4222", "nats://b:4222"),
        ("nats://a:4222", "nats://a:4222"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, seen: str) -> None:
    """Nothing before an @ is shown."""
    assert shown(url) == seen


def test_a_port_in_use_is_refused_with_its_holder(data: DataDirectory) -> None:
    """A gateway port that is taken is refused: which, by whom, and what to do about it."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"port {port} is in use( by .* \(pid {os.getpid()}\))?: .*--port"):
            plan(data, port=port)


@pytest.mark.parametrize("variable", ["REGISTRY_URL", "NATS_URL"])
def test_what_is_in_memory_is_refused(data: DataDirectory, variable: str) -> None:
    """memory:// cannot be shared by processes, so a shop of several refuses it by the variable's name."""
    with pytest.raises(SettingError, match=f"{variable}: memory://"):
        plan(data, replicas=2, port=0, **{variable: "memory://"})


def test_a_wrong_variable_is_named(data: DataDirectory) -> None:
    """A variable that no service could use is refused before anything starts."""
    with pytest.raises(SettingError, match="SHOP_WEIGHT"):
        plan(data, SHOP_WEIGHT="heavy")


def test_every_process_serves_its_metrics_on_a_port_of_its_own(data: DataDirectory) -> None:
    """They take the ports from the one that is named on, in the order of the plan; without one nobody serves any."""
    ports = [part.program.environment["SHOP_METRICS_PORT"] for part in plan(data, SHOP_METRICS_PORT="9100").parts]
    assert ports == [str(9100 + number) for number in range(2 * len(SERVICES) + len(TOPICS))]
    assert not any("SHOP_METRICS_PORT" in part.program.environment for part in plan(data).parts)


def test_the_ports_for_metrics_must_exist(data: DataDirectory) -> None:
    """Too few above the one that is named are a mistake in the variable."""
    with pytest.raises(SettingError, match="SHOP_METRICS_PORT: must leave a port after it"):
        plan(data, SHOP_METRICS_PORT="65530")
