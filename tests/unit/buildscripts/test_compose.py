"""docker-compose.yml is the production shape: exact images, replicas, health checks, no secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from shop_services.launch.commands import SERVICES as NAMES
from shop_services.messaging.bus import TOPICS
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import tls_files

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"setup"}))
def test_every_container_is_an_exact_version_with_a_health_check(name: str) -> None:
    """No image floats: each tag is a whole version. Each container has a health check, and comes back after a crash."""
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", SERVICES[name]["image"])
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("command", [*(("serve", name) for name in NAMES), *(("worker", topic) for topic in TOPICS)])
def test_everything_has_two_replicas_and_three_registries_and_brokers(command: tuple[str, str]) -> None:
    """The shop survives the loss of a replica of any service or worker, of one etcd, and of one NATS."""
    service = SERVICES[command[1] if command[0] == "serve" else "-".join(command)]
    assert service["command"] == list(command)
    assert service["deploy"]["replicas"] == 2
    assert service["environment"]["REGISTRY_URL"] == "etcds://etcd1:2379,etcd2:2379,etcd3:2379"
    assert service["environment"]["NATS_URL"] == "tls://nats1:4222,nats2:4222,nats3:4222"
    assert service["environment"]["SHOP_STREAM_REPLICAS"] == 3


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"setup"}))
def test_every_container_has_its_own_certificate_and_no_other(name: str, made: Path) -> None:
    """What `setup` leaves for a container is a certificate of its name, as the shop finds it, and nobody else's key."""
    (subpath,) = (mount["volume"]["subpath"] for mount in _mounts(name) if mount["source"] == "tls")
    identity = {"worker-notifications": "notification"}.get(name, "order" if name.startswith("worker-") else name)
    assert subpath == identity.rstrip("0123456789")
    directory = made / "tls" / subpath
    assert {path.name for path in directory.iterdir()} == {"ca.pem", f"{subpath}.pem", f"{subpath}.key"}
    assert tls_files(Settings(registry_url="memory://", nats_url="memory://", tls_dir=directory), subpath)


def test_who_gives_out_tokens_alone_can_sign_them(made: Path) -> None:
    """`setup` makes the key of `identity`; the user service has it, and all others what it takes to check tokens."""
    assert [path.name.partition(".")[0] for path in (made / "keys/private").iterdir()] == ["identity"]
    whole = [name for name in SERVICES if any(volume.startswith("keys:") for volume in _volumes(name))]
    assert whole == ["setup", "user"]
    for name in [*NAMES, *(f"worker-{topic}" for topic in TOPICS)]:
        public = [mount["volume"]["subpath"] for mount in _mounts(name) if mount["source"] == "keys"]
        assert public == ([] if name == "user" else ["public"])


def _volumes(name: str) -> list[str]:
    return [volume for volume in SERVICES[name].get("volumes", ()) if isinstance(volume, str)]


def _mounts(name: str) -> list[dict[str, Any]]:
    return [volume for volume in SERVICES[name].get("volumes", ()) if not isinstance(volume, str)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script of `setup` makes when it runs twice, but for the owners of the files."""
    place = tmp_path_factory.mktemp("setup")
    (place / "bin").mkdir()
    (place / "bin/chown").symlink_to(shutil.which("true") or "")
    (script,) = SERVICES["setup"]["command"]
    script = re.sub(r"(?<![\w$])/(authority|tls|keys)\b", rf"{place}/\1", script.replace("$$", "$"))
    path = f"{place / 'bin'}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    for _ in range(2):
        environment = {"PATH": path, "SHOP_KEYS_DIR": str(place / "keys")}
        for volume in ("tls", "keys"):
            (place / volume).mkdir(exist_ok=True)
        subprocess.run(["/bin/sh", "-euc", script], env=environment, check=True, timeout=60)
    return place


def test_messages_are_on_disk_before_they_are_acknowledged() -> None:
    """JetStream is on in each of the three NATS, bounded, and syncs each message."""
    config = COMPOSE["configs"]["nats"]["content"]
    assert re.search(r"jetstream \{[^}]*max_file_store: 8GB[^}]*sync_interval: always", config)
    for name in ("nats1", "nats2", "nats3"):
        assert SERVICES[name]["configs"] == [{"source": "nats", "target": "/etc/nats/shop.conf"}]


def test_each_service_has_a_database_of_its_own() -> None:
    """No two services share a database, though order and its workers do; none gets one that the first start does not
    make."""
    urls = {name: service.get("environment", {}).get("DATABASE_URL") for name, service in SERVICES.items()}
    databases = {name: url.rsplit("/", 1)[1] for name, url in urls.items() if url}
    orders = ("order", "worker-orders", "worker-payments", "worker-inventory")
    assert databases == dict.fromkeys(orders, "shop_order") | {
        "user": "shop_user",
        "product": "shop_product",
        "payment": "shop_payment",
        "worker-notifications": "shop_notification",
    }
    script = COMPOSE["configs"]["databases"]["content"]
    assert set(re.findall(r"CREATE DATABASE (\w+);", script)) == set(databases.values())
