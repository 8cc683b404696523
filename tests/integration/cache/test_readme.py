"""The program in services/README.md, against a real instance of the cache."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from grpc_registry import connect
from shop.cache.v1 import cache_pb2 as pb
from shop.cache.v1.cache_pb2_grpc import CacheServiceStub
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.settings import Settings
from tests.servers import Etcd
from tests.servers.service import ServiceProcess

README = (Path(__file__).parents[3] / "services/README.md").read_text()
SECTION = README[README.index("**From Python**") :]


async def registered(url: str, data: Path) -> None:
    """Return when an instance answers who asks the registry for one: it is registered after it listens."""
    async with connect(url) as registry, operator_channel("cache", registry, Settings(data=data)) as channel:
        await CacheServiceStub(channel).GetStats(pb.GetStatsRequest(), wait_for_ready=True, timeout=60)


def test_the_program_prints_what_is_printed_there(etcd: Etcd, tmp_path: Path) -> None:
    """With the operator's key at hand it runs as it stands, but for the port of etcd, and for its patience."""
    program, printed = re.findall(r"```(?:python)?\n(.*?)```", SECTION, re.DOTALL)[:2]
    environment = {**os.environ, "REGISTRY_URL": etcd.url, "SHOP_DATA": str(tmp_path / "data")}
    environment["SHOP_LEASE_TTL"] = "60"  # an instance that stands still for long forgets what it was given
    # It waits a tenth of a second for each answer, and this machine may take longer for any of them.
    assert "ttl=600," in program
    program = program.replace("ttl=600,", "ttl=600, timeout=30,").replace("etcd://127.0.0.1:2379", etcd.url)
    (tmp_path / "cache").mkdir()
    cache = ServiceProcess("cache", tmp_path / "cache", environment)
    try:
        cache.start()
        asyncio.run(registered(etcd.url, tmp_path / "data"))
        result = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        cache.kill()
    assert result.returncode == 0, result.stderr
    assert result.stdout == printed
