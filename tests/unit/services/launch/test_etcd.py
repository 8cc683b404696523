"""The embedded etcd, for real."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from pathlib import Path

import pytest

from shop_services.launch.errors import MissingBinary
from shop_services.launch.etcd import etcd_binary, etcd_command
from shop_services.launch.ports import LOOPBACK
from shop_services.launch.probes import http_get
from shop_services.launch.program import Program
from shop_services.launch.supervisor import Supervisor
from tests.servers import free_port


async def test_starts_and_starts_again_on_other_ports(tmp_path: Path) -> None:
    """The embedded etcd becomes healthy, ends on SIGTERM, and its data serves again although the ports are new."""
    reports: list[str] = []
    async with Supervisor(reports.append) as supervisor:
        for _ in range(2):
            client, peer = free_port(), free_port()
            assert await http_get(f"{LOOPBACK}:{client}", "/health") == (0, b"")
            command = etcd_command(etcd_binary(), tmp_path / "etcd", client_port=client, peer_port=peer)
            child = supervisor.start(Program("etcd", command, {}, tmp_path / "etcd.log"))
            async with asyncio.timeout(20):
                while (await http_get(f"{LOOPBACK}:{client}", "/health"))[0] != 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.02)
            assert await supervisor.drain([child], 30) == []
    assert reports == []


def test_a_missing_binary_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an etcd the error names the package to install and the setting that does without."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingBinary, match=r"shop-services\[embedded\].*REGISTRY_URL"):
        etcd_binary()


def test_takes_the_etcd_on_the_path_where_the_wheel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system's own etcd serves as well."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert etcd_binary() == Path("/opt/etcd")
