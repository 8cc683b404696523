"""The program in services/README.md, against a real instance of the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.servers import Etcd
from tests.servers.service import ServiceProcess

README = (Path(__file__).parents[3] / "services/README.md").read_text()
SECTION = README[README.index("**From Python**") :]


def test_the_program_prints_what_is_printed_there(etcd: Etcd, tmp_path: Path) -> None:
    """With the operator's key at hand it runs as it stands, but for the port of etcd."""
    program, printed = re.findall(r"```(?:python)?\n(.*?)```", SECTION, re.DOTALL)[:2]
    environment = {**os.environ, "REGISTRY_URL": etcd.url, "SHOP_DATA": str(tmp_path / "data")}
    environment["SHOP_LEASE_TTL"] = "60"  # an instance that stands still for long forgets what it was given
    (tmp_path / "cache").mkdir()
    cache = ServiceProcess("cache", tmp_path / "cache", environment)
    try:
        cache.start()
        command = [sys.executable, "-c", program.replace("etcd://127.0.0.1:2379", etcd.url)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    finally:
        cache.kill()
    assert result.returncode == 0, result.stderr
    assert result.stdout == printed
