"""docker-compose.yml is the production shape: exact images, replicas, health checks, no secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_an_exact_version_with_a_health_check(name: str) -> None:
    """No image floats: each tag is a whole version. Each container has a health check, and comes back after a crash."""
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", SERVICES[name]["image"])
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["user", "product", "order", "cache", "gateway"])
def test_every_service_has_two_replicas_and_three_registries(name: str) -> None:
    """The shop survives the loss of a replica, and of one etcd."""
    assert SERVICES[name]["command"] == ["serve", name]
    assert SERVICES[name]["deploy"]["replicas"] == 2
    assert SERVICES[name]["environment"]["REGISTRY_URL"] == "etcd://etcd1:2379,etcd2:2379,etcd3:2379"


def test_each_service_has_a_database_of_its_own() -> None:
    """No two services share a database, and none gets one that the first start does not make."""
    urls = {name: service.get("environment", {}).get("DATABASE_URL") for name, service in SERVICES.items()}
    databases = {name: url.rsplit("/", 1)[1] for name, url in urls.items() if url}
    assert databases == {"user": "shop_user", "product": "shop_product", "order": "shop_order"}
    script = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["configs"]["databases"]["content"]
    assert set(re.findall(r"CREATE DATABASE (\w+);", script)) == set(databases.values())
